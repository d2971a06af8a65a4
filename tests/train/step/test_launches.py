"""How many kernels a step asks a GPU for: ceilings, counted without a GPU."""

from dataclasses import replace

import pytest
import torch
from launches import Counts, Launches, fake_gpu
from torch import nn

from audio_barlow_twins.train.config import OptimiserConfig
from audio_barlow_twins.train.presets import PRESETS
from audio_barlow_twins.train.step.optimiser import make_optimiser
from audio_barlow_twins.train.views.base import LogmelView, View
from audio_barlow_twins.train.views.norm import RunningNorm, SetNorm
from audio_barlow_twins.train.views.pipeline import TwoViews
from audio_barlow_twins.train.views.registry import default_views

CEILINGS = {
    "audiontt-audioset": (180, 115, 175, 26),
    "vitc-b-audioset": (180, 570, 1030, 20),
    "waveform-light": (540, 115, 175, 26),
    "waveform-strong": (1300, 115, 175, 26),
}
"""Most launches of views, forward, backward and optimiser, batch 128."""


@pytest.mark.parametrize("name", CEILINGS)
def test_a_step_takes_few_launches(name: str) -> None:
    *parts, flop = Counts.of(PRESETS[name][1])
    assert all(part.total <= most for part, most in zip(parts, CEILINGS[name], strict=True)), [
        part.total for part in parts
    ]
    assert flop > 0.3e12


def test_what_is_counted_is_what_was_called() -> None:
    with fake_gpu() as gpu, Launches() as counted:
        x = torch.ones(4, 3, device=gpu)
        (x[:, :2] + 1).T.contiguous()[None].mul_(2)
        torch._foreach_add_([torch.zeros(2, device=gpu) for _ in range(41)], 1)
    expected = {"ones": 1, "add": 1, "clone": 1, "mul_": 1, "zeros": 41, "_foreach_add_": 2}
    assert counted.calls == expected
    assert counted.float64 == 0


def test_a_batch_draws_all_its_numbers_at_once() -> None:
    few, many = (
        TwoViews(chain, SetNorm(0, 1), (96, 64))
        for chain in ({"rlf": default_views()["rlf"]}, default_views(LogmelView))
    )
    totals = []
    for views in (few, many):
        with fake_gpu(views) as gpu, Launches() as counted:
            views.draws(torch.empty(256, dtype=torch.int64, device=gpu))
        totals.append(counted.total)
    assert totals[0] == totals[1] <= 40


@pytest.mark.parametrize("name", sorted(default_views()))
@pytest.mark.parametrize("normalise", ["set", "ppn"])
def test_every_view_runs_on_a_device_without_reading_a_value(name: str, normalise: str) -> None:
    view: View = default_views()[name]
    config = replace(PRESETS["demo"][1], views=(name,), batch=4)
    norm = {"set": SetNorm(0, 1), "ppn": RunningNorm(9, torch.device("cpu"), lambda x: x)}
    waves = not isinstance(view, LogmelView)
    views = TwoViews(config.chain, norm[normalise], (20, 64), config.front_end if waves else None)
    with fake_gpu(views) as gpu:
        shape, kind = ((4, 9000), torch.int16) if waves else ((4, 20, 64), torch.float16)
        crops = torch.empty(shape, dtype=kind, device=gpu)
        made = views(crops, torch.empty(2, 4, dtype=torch.int64, device=gpu))
    assert [x.shape for x in made] == 2 * [(4, 20, 64)]
    assert {x.device.type for x in made} == {"cuda"}


@pytest.mark.parametrize("kind", ["lars", "adamw"])
def test_an_optimiser_whose_rates_are_tensors_reads_no_value(kind: str) -> None:
    with fake_gpu() as gpu:
        shapes = [(3, 4), (4,)]
        network = nn.ParameterList([nn.Parameter(torch.empty(s, device=gpu)) for s in shapes])
        for x in network:
            x.grad = torch.empty_like(x)
        optimiser = make_optimiser(network, OptimiserConfig(kind=kind), 128, captured=True)
        with Launches():
            optimiser.step()
            optimiser.step()
    assert all(group["lr"].device.type == "cuda" for group in optimiser.param_groups)

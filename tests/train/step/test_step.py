"""The step: the same by hand, one graph a part, rates as tensors, steps that are taken back."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from gpu import without_dropout
from torch import Tensor, nn

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.shardset import ShardSet
from audio_barlow_twins.train.config import OptimiserConfig, TrainConfig
from audio_barlow_twins.train.step.optimiser import (
    load_optimiser_state,
    make_optimiser,
    optimiser_state,
    set_rate,
)
from audio_barlow_twins.train.step.ranks import Ranks
from audio_barlow_twins.train.step.schedule import warmup_cosine
from audio_barlow_twins.train.step.setup import step_kind
from audio_barlow_twins.train.step.step import PlainStep
from audio_barlow_twins.train.step.synced import RowDropout, synchronise
from audio_barlow_twins.train.step.trainer import Trainer
from audio_barlow_twins.train.views.base import WaveView
from audio_barlow_twins.train.views.norm import RunningNorm, SetNorm
from audio_barlow_twins.train.views.pipeline import TwoViews, needed_samples
from audio_barlow_twins.train.views.registry import PAPER, WAVE_PRESETS, make_chain, of_kind

GPU = torch.device("cuda", 0)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("optimiser", ["lars", "adamw"])
def test_a_step_is_what_it_says_bit_for_bit(
    config: TrainConfig, shard_set: ShardSet, optimiser: str
) -> None:
    config = replace(config, optimiser=replace(config.optimiser, kind=optimiser))
    taken, by_hand = Trainer(config, shard_set), Trainer(config, shard_set)
    batches = zip(range(3), taken.batches(), by_hand.batches(), strict=False)
    for step, inputs, same in batches:
        losses = taken.take_step(inputs)
        set_rate(by_hand.optimiser, warmup_cosine(step, taken.total_steps, taken.warmup_steps))
        torch.manual_seed(config.seed * 1_000_003 + step)
        view_a, view_b = by_hand.views(same.crops, same.keys)
        outcome = by_hand.network(view_a, view_b)
        by_hand.optimiser.zero_grad()
        outcome.terms.loss.backward()
        by_hand.optimiser.step()
        assert torch.equal(losses, torch.stack([x.detach() for x in outcome.terms]))
    for mine, other in zip(
        taken.network.state_dict().values(), by_hand.network.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, other)


@pytest.mark.usefixtures("one_thread")
def test_steps_that_are_taken_back_leave_no_trace(
    config: TrainConfig, shard_set: ShardSet, take: Callable[[Trainer, int], list[Tensor]]
) -> None:
    config = replace(config, normalise="ppn", views=("mixup", "rrc"))
    straight, tried = Trainer(config, shard_set), Trainer(config, shard_set)
    for taken in (0, 2):
        with tried.rewound():
            take(tried, 2)
        assert tried.step == taken
        assert tried.latest is None
        expected, found = take(straight, 2), take(tried, 2)
        assert torch.equal(torch.stack(found), torch.stack(expected))
    for mine, other in zip(tried._tensors(), straight._tensors(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("kind", ["lars", "adamw"])
def test_rates_as_tensors_are_the_rates_as_numbers(kind: str) -> None:
    def train(tensors: bool) -> list[Tensor]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(7, 5, bias=False), nn.BatchNorm1d(5))
        optimiser = make_optimiser(network, OptimiserConfig(kind=kind), 128)
        for group in optimiser.param_groups if tensors else ():
            group["lr"] = torch.tensor(group["lr"])
        for step in range(5):
            set_rate(optimiser, 1 / (1 + step))
            optimiser.zero_grad()
            (network(torch.randn(9, 7)) - torch.randn(9, 5)).square().mean().backward()
            optimiser.step()
        assert all(isinstance(group["lr"], Tensor) == tensors for group in optimiser.param_groups)
        return [x.detach() for x in network.parameters()]

    for mine, other in zip(train(True), train(False), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["lars", "adamw"])
def test_an_optimisers_state_goes_to_a_step_of_another_kind(kind: str) -> None:
    network = nn.Linear(3, 2)
    first, second = (make_optimiser(network, OptimiserConfig(kind=kind), 64) for _ in range(2))
    for group in first.param_groups:
        group["lr"] = torch.tensor(0.25)
        group["capturable"] = True  # as on a GPU
    network(torch.ones(4, 3)).sum().backward()
    first.param_groups[0]["capturable"] = first.param_groups[1]["capturable"] = False
    first.step()
    state = deepcopy(optimiser_state(first))
    assert [group["lr"] for group in state["param_groups"]] == [
        group["peak_lr"] for group in first.param_groups
    ]
    load_optimiser_state(second, state)
    for key in first.state:
        for name, value in first.state[key].items():
            assert torch.equal(second.state[key][name], value)
    assert [group.get("capturable", False) for group in second.param_groups] == [False, False]
    assert not any(isinstance(group["lr"], Tensor) for group in second.param_groups)


class TestKind:
    """What `--step` chooses."""

    def test_auto_is_a_graph_where_one_process_has_a_gpu(self) -> None:
        assert step_kind("auto", Ranks(device=GPU)) == "graph"
        assert step_kind("auto", Ranks()) == "plain"
        assert step_kind("auto", Ranks(rank=0, world=2, device=GPU)) == "plain"

    def test_what_is_asked_for_is_done(self) -> None:
        for kind in ("plain", "compiled"):
            assert step_kind(kind, Ranks(device=GPU)) == kind
            assert step_kind(kind, Ranks()) == kind
        assert step_kind("graph", Ranks(device=GPU)) == "graph"

    @pytest.mark.parametrize("ranks", [Ranks(), Ranks(rank=0, world=2, device=GPU)])
    def test_a_graph_without_a_gpu_of_its_own_is_refused(self, ranks: Ranks) -> None:
        with pytest.raises(UserError, match=r"--step graph takes one process with a GPU"):
            step_kind("graph", ranks)


# torch's own compiler warns of what will change in it.
QUIET = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@QUIET
class TestOneGraph:
    """Views and network are one graph each, whatever they contain."""

    @pytest.mark.parametrize("backend", ["fft", "nnaudio"])
    @pytest.mark.parametrize("name", WAVE_PRESETS)
    def test_views_of_waveforms(self, name: str, backend: str) -> None:
        chain = WAVE_PRESETS[name] | make_chain(PAPER, {})
        views = TwoViews(chain, SetNorm(0, 1), (16, 64), FrontEnd(), log_mel=backend)
        samples = needed_samples(of_kind(chain, WaveView), 15 * 160, 16000)
        views.prepare()
        assert graphs(views, torch.zeros(4, samples, dtype=torch.int16), keys()) == 1

    @pytest.mark.parametrize(
        "norm", [SetNorm(0, 1), RunningNorm(9, torch.device("cpu"), lambda x: x)]
    )
    def test_views_of_log_mel(self, norm: nn.Module) -> None:
        views = TwoViews(make_chain((*PAPER, "noise"), {}), norm, (16, 64))
        assert graphs(views, torch.zeros(4, 16, 64, dtype=torch.float16), keys()) == 1

    @pytest.mark.parametrize("encoder", ["audiontt", "vitc-t-16x8", "vit-t-16x8", "resnet18"])
    def test_network_and_loss_with_dropout(
        self, config: TrainConfig, shard_set: ShardSet, encoder: str
    ) -> None:
        network = Trainer(replace(config, encoder=encoder, encoder_options=()), shard_set).network
        view = torch.randn(config.batch, 32, 64)
        assert graphs(network, view, view) == 1
        assert encoder != "audiontt" or any(
            isinstance(x, RowDropout) and x.dropped for x in network.modules()
        )


def keys() -> Tensor:
    return torch.from_numpy(np.arange(8).reshape(2, 4))


def graphs(module: nn.Module, *inputs: Tensor) -> int:
    """Return into how many graphs torch.compile would cut a module."""
    torch._dynamo.reset()
    return torch._dynamo.explain(module)(*inputs).graph_count


@QUIET
@pytest.mark.slow
@pytest.mark.parametrize("normalise", ["set", "ppn-per-view"])
def test_compiled_steps_give_the_losses_of_plain_ones(
    config: TrainConfig, shard_set: ShardSet, normalise: str
) -> None:
    config = replace(config, normalise=normalise)

    def losses(kind: str) -> Tensor:
        """Take three steps without dropout, which compiled code draws in another way."""
        trainer = without_dropout(Trainer(replace(config, step=kind), shard_set))
        steps = zip(range(3), trainer.batches(), strict=False)
        return torch.stack([trainer.take_step(inputs) for _, inputs in steps])

    torch.testing.assert_close(losses("compiled"), losses("plain"), rtol=1e-3, atol=1e-3)


@QUIET
def test_compiled_dropout_drops_as_much() -> None:
    network = synchronise(nn.Sequential(nn.Dropout(0.3)), Ranks(), 64)
    y = torch.compile(network, fullgraph=True)(torch.ones(64, 999))
    assert float((y == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert y[y != 0].unique().tolist() == pytest.approx([1 / 0.7], rel=1e-4)


def test_marks_name_the_parts_of_a_plain_step_in_their_order(
    config: TrainConfig, shard_set: ShardSet
) -> None:
    trainer, parts = Trainer(config, shard_set), list[str]()
    inputs = next(trainer.batches())
    step = PlainStep(trainer.views, trainer.network, trainer.optimiser, False, parts.append)
    result = step(*inputs)
    assert parts == ["views", "forward and backward", "optimiser"]
    assert result.correlation.shape == (config.projector_out,) * 2
    assert len(result.embeddings) == config.batch

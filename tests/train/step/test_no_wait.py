"""Nothing in a step waits for the device: all of it runs on tensors that have no values."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from launches import shapes_alone
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException

from audio_barlow_twins.shards.stored.logmel import LogMel
from audio_barlow_twins.shards.stored.shardset import ShardSet, open_shards
from audio_barlow_twins.train.config import TrainConfig
from audio_barlow_twins.train.step.feed import Inputs
from audio_barlow_twins.train.step.setup import crop_length
from audio_barlow_twins.train.step.trainer import Trainer
from audio_barlow_twins.train.views.base import WaveView
from audio_barlow_twins.train.views.norm import RunningNorm, SetNorm
from audio_barlow_twins.train.views.pipeline import TwoViews
from audio_barlow_twins.train.views.registry import make_chain, view_names

ALL = ("mixup", "rrc", "rlf", "noise")


@pytest.fixture
def no_values(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute with shapes alone: reading a value of a tensor, as a GPU would be waited for, raises.

    On a CPU build of torch a GPU cannot be made believe; what is read there is read here.
    """
    monkeypatch.setattr(nn.Module, "to", lambda self, *_, **__: self)  # fakes cannot be moved
    with shapes_alone():
        yield


def test_a_step_from_waves_reads_no_value(
    config: TrainConfig, waves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard_set = open_shards(waves)
    names = (*view_names(WaveView), "mixup", "rrc")
    config = replace(config, views=names, statistics=config.shards, shards=str(waves))
    monkeypatch.setattr(nn.Module, "to", lambda self, *_, **__: self)
    monkeypatch.setattr(LogMel, "_floor", lambda self: torch.ones(64, 1))  # it checks its values
    samples = crop_length(config, shard_set)
    with shapes_alone():
        trainer = Trainer(config, shard_set)
        crops = torch.empty(config.batch, samples, dtype=torch.int16)
        keys = torch.empty(2, config.batch, dtype=torch.int64)
        for _ in range(2):
            assert trainer.take_step(Inputs(crops, keys)).shape == (3,)


@pytest.mark.parametrize("normalise", ["set", "ppn", "ppn-per-view"])
def test_a_step_reads_no_value(
    config: TrainConfig, shard_set: ShardSet, no_values: None, normalise: str
) -> None:
    config = replace(config, precision="bf16", normalise=normalise, views=ALL)
    trainer = Trainer(config, shard_set)
    crops = torch.empty(config.batch, config.crop_frames, 64, dtype=torch.float16)
    keys = torch.empty(2, config.batch, dtype=torch.int64)
    for _ in range(2):
        losses = trainer.take_step(Inputs(crops, keys))
        assert losses.shape == (3,)


def test_without_values_reading_one_raises(no_values: None) -> None:
    with pytest.raises(DataDependentOutputException):
        torch.ones(3).sum().item()


@pytest.mark.parametrize("norm", ["set", "ppn"])
def test_views_make_everything_on_the_device_of_the_clips(norm: str) -> None:
    meta = torch.device("meta")
    norms = {"set": SetNorm(0, 1), "ppn": RunningNorm(9, meta, lambda x: x)}
    views = TwoViews(make_chain(ALL, {}), norms[norm], (96, 64), device=meta)
    x = torch.empty(6, 96, 64, device=meta)
    keys = torch.empty(2, 6, dtype=torch.int64, device=meta)
    for _ in range(3):
        made = views.make(x, x, keys)
        views.remember(x)
        assert (made.device, made.shape) == (meta, (12, 96, 64))

"""Training from waves: their log-mel is the stored one, views can be replayed, runs go on."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.form import wave_form
from audio_barlow_twins.shards.stored.logmel import LogMel
from audio_barlow_twins.shards.stored.shardset import ShardSet, open_shards
from audio_barlow_twins.train.config import TrainConfig
from audio_barlow_twins.train.run.session import train
from audio_barlow_twins.train.step.setup import crop_length, logmel_statistics, open_set
from audio_barlow_twins.train.step.trainer import Trainer
from audio_barlow_twins.train.views.add import Background
from audio_barlow_twins.train.views.time import TimeStretch

STRONG = ("time-stretch", "pitch-shift", "background", "gain", "mixup", "rrc")


@pytest.fixture(scope="module")
def wave_set(
    tmp_path_factory: pytest.TempPathFactory,
    demo_waves: dict[str, np.ndarray],
    write_set: Callable[..., Path],
) -> ShardSet:
    """Write forty demo clips as a wave set."""
    chosen = {key: demo_waves[key] for key in list(demo_waves)[::5][:40]}
    return open_shards(write_set(tmp_path_factory.mktemp("waves"), wave_form(), chosen))


@pytest.fixture
def wave_config(config: TrainConfig, wave_set: ShardSet) -> TrainConfig:
    """Describe a run of ten steps on waves."""
    ranges = config.ranges | {"background": Background(memory=12)}
    return replace(config, shards=str(wave_set.folder), views=STRONG, ranges=ranges)


def test_a_crop_of_samples_gives_the_frames_of_a_crop_of_log_mel(
    wave_config: TrainConfig, wave_set: ShardSet, demo_waves: dict[str, np.ndarray]
) -> None:
    trainer = Trainer(replace(wave_config, views=()), wave_set)
    batch = next(trainer.reader.batches(0, 1))
    view, _ = trainer.views(batch.crops, torch.from_numpy(np.stack([batch.clips, batch.clips])))
    assert view.shape == (8, 32, 64)
    mean, std = trainer.statistics
    for i, (clip, start) in enumerate(zip(batch.clips, batch.starts, strict=True)):
        wave = demo_waves[wave_set.keys[clip]][start : start + 31 * 160]
        wave = np.pad(wave, (0, 31 * 160 - len(wave)))
        expected = (LogMel()(torch.from_numpy(wave)[None])[0] - mean) / std
        torch.testing.assert_close(view[i], expected)


def test_statistics_are_near_those_of_the_log_mel_set(
    wave_config: TrainConfig, wave_set: ShardSet, shard_set: ShardSet
) -> None:
    mean, std = logmel_statistics(wave_config, wave_set)
    assert mean == pytest.approx(shard_set.statistics.mean, abs=1.0)
    assert std == pytest.approx(shard_set.statistics.std, rel=0.2)
    given = logmel_statistics(replace(wave_config, statistics=str(shard_set.folder)), wave_set)
    assert given == (shard_set.statistics.mean, shard_set.statistics.std)


def test_stretching_reads_longer_crops(wave_config: TrainConfig, wave_set: ShardSet) -> None:
    plain = replace(wave_config, views=("gain",))
    assert crop_length(plain, wave_set) == 31 * 160
    ranges = wave_config.ranges | {"time-stretch": TimeStretch(rate=(0.5, 2))}
    assert crop_length(replace(wave_config, ranges=ranges), wave_set) >= 2 * 31 * 160


def test_the_banks_hold_clips_as_they_were_read(
    wave_config: TrainConfig, wave_set: ShardSet
) -> None:
    trainer = Trainer(wave_config, wave_set)
    batch = next(trainer.batches())
    crops = batch.crops[:, : 31 * 160].clone()
    trainer.take_step(batch)
    torch.testing.assert_close(trainer.views.wave_bank.clips(), crops.float() / 32768)
    mean, std = trainer.statistics
    expected = (LogMel()(crops) - mean) / std
    torch.testing.assert_close(trainer.views.bank.clips(), expected)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("normalise", ["set", "ppn"])
def test_a_resumed_run_on_waves_repeats_the_straight_one(
    wave_config: TrainConfig,
    wave_set: ShardSet,
    take: Callable[[Trainer, int], list[Tensor]],
    normalise: str,
) -> None:
    config = replace(wave_config, normalise=normalise)
    straight, resumed = Trainer(config, wave_set), Trainer(config, wave_set)
    take(straight, 3)
    resumed.restore(deepcopy(straight.checkpoint()))
    assert torch.equal(torch.stack(take(straight, 3)), torch.stack(take(resumed, 3)))


def test_views_do_not_depend_on_the_place_in_the_batch(
    wave_config: TrainConfig, wave_set: ShardSet
) -> None:
    trainer = Trainer(wave_config, wave_set)
    stream = trainer.batches()
    trainer.take_step(next(stream))  # fills the banks
    crops, keys = next(stream)
    order = torch.arange(7, -1, -1)
    other = deepcopy(trainer.views)
    straight, _ = trainer.views(crops, keys)
    turned, _ = other(crops[order], keys[:, order])
    torch.testing.assert_close(turned, straight[order], atol=1e-4, rtol=1e-4)


def test_a_run_on_waves_trains_and_describes_itself(
    wave_config: TrainConfig, wave_set: ShardSet
) -> None:
    train(replace(wave_config, epochs=0.6))
    made = Trainer(wave_config, wave_set).checkpoint()
    assert made.front_end == wave_config.front_end.parameters()


@pytest.mark.parametrize(
    ("views", "reason"),
    [
        (("mixup", "gain"), "those of waveforms .gain. come before those of log-mel .mixup."),
        (("gain", "gain"), "each at most once"),
        (("gain", "shout"), "no view is called 'shout'; choose from .*; `abt --import MODULE"),
    ],
)
def test_impossible_orders_are_refused(config: TrainConfig, views: tuple, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        replace(config, views=views)


def test_views_of_waveforms_on_a_log_mel_set_are_refused(config: TrainConfig) -> None:
    with pytest.raises(UserError, match="holds log-mel, but pitch-shift change waveforms; give"):
        open_set(replace(config, views=("pitch-shift", "rrc")))

"""What a run's config and its shards make of each other: crops, statistics, views."""

import numpy as np
import torch
from torch import Tensor

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.read.reader import CropReader
from audio_barlow_twins.shards.stored.form import logmel_form, wave_form
from audio_barlow_twins.shards.stored.logmel import LogMel
from audio_barlow_twins.shards.stored.shardset import ShardSet, open_shards

from ..config import TrainConfig
from ..views.norm import PPN_EPOCHS, RunningNorm, SetNorm
from ..views.pipeline import Views, split_views
from ..views.wave_views import needed_samples
from ..views.waves import WaveViews
from .ranks import Ranks

SAMPLE = 4096
"""Crops of a wave set whose log-mel gives mean and standard deviation."""
SAMPLE_BATCH = 128

AnyViews = Views | WaveViews


def open_set(config: TrainConfig) -> ShardSet:
    """Open the shards of a run.

    Raises:
        UserError: they are missing, or are not what the config wants.
    """
    shard_set = open_shards(config.shards)
    waves = shard_set.form.kind == "wave"
    wanted = wave_form() if waves else logmel_form(config.front_end)
    shard_set.form.require(wanted, config.shards)
    if not waves and (names := split_views(config.views)[0]):
        raise UserError(
            f"{config.shards} holds log-mel, but {', '.join(names)} change waveforms; give a wave "
            "set, such as data/demo/wave, or leave them out of --views"
        )
    return shard_set


def view_samples(config: TrainConfig) -> int:
    """Count the samples of a view, of which `crop_frames` frames of log-mel are made."""
    return (config.crop_frames - 1) * config.front_end.hop


def crop_length(config: TrainConfig, shard_set: ShardSet) -> int:
    """Count what is read of a clip: frames of log-mel, or samples; stretching takes some more."""
    if shard_set.form.kind == "logmel":
        return config.crop_frames
    chain = config.ranges.chain(split_views(config.views)[0])
    return needed_samples(chain, view_samples(config), config.front_end.sample_rate)


def build_views(
    config: TrainConfig, shard_set: ShardSet, statistics: tuple[float, float], ranks: Ranks
) -> AnyViews:
    """Build the augmentations of a run, as they are before its first step.

    Args:
        config: the run.
        shard_set: what it trains on.
        statistics: mean and standard deviation of its log-mel.
        ranks: this process among those that share every batch.
    """

    def gather(x: Tensor) -> Tensor:
        return ranks.gather(x, config.batch)

    norm: SetNorm | RunningNorm = SetNorm(*statistics)
    if config.normalise == "ppn":
        norm = RunningNorm(PPN_EPOCHS * len(shard_set), ranks.device, gather)
    waves, log_mels = split_views(config.views)
    shape = config.crop_frames, config.front_end.n_mels
    views = Views(log_mels, config.ranges, norm, shape, ranks.device, gather)
    if shard_set.form.kind == "logmel":
        return views
    return WaveViews(
        config.ranges.chain(waves),
        views,
        config.front_end,
        view_samples(config),
        config.ranges.wave_bank,
        ranks.device,
    )


def logmel_statistics(config: TrainConfig, shard_set: ShardSet) -> tuple[float, float]:
    """Return mean and standard deviation of a set's log-mel; of a wave set, from SAMPLE crops.

    Frames that lie behind the end of a short clip do not count.
    """
    if config.statistics:
        shard_set = open_shards(config.statistics, logmel_form(config.front_end))
    if shard_set.form.kind == "logmel":
        return shard_set.statistics.mean, shard_set.statistics.std
    log_mel, hop = LogMel(config.front_end), config.front_end.hop
    values = []
    with CropReader(
        shard_set, frames=view_samples(config), batch=min(SAMPLE_BATCH, len(shard_set)),
        seed=config.seed, block_shards=config.block_shards, cache=config.cache,
    ) as reader:  # fmt: skip
        for batch in reader.batches(0, -(-min(SAMPLE, len(shard_set)) // reader.batch)):
            frames = shard_set.n_frames[batch.clips.numpy()] // hop + 1
            there = torch.arange(config.crop_frames) < torch.from_numpy(frames)[:, None]
            values.append(log_mel(batch.crops)[there].numpy().astype(np.float64))
    found = np.concatenate(values)
    return float(found.mean()), float(found.std())

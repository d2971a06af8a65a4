"""What follows from a run's config and its shards together: crops, statistics, views."""

from typing import Literal

import torch
from torch import Tensor

from audio_barlow_twins.model.encoders import Size, default_options, encoder_options
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.place import is_remote, place
from audio_barlow_twins.shards.read.reader import CropReader
from audio_barlow_twins.shards.stored.form import logmel_form, wave_form
from audio_barlow_twins.shards.stored.logmel import LogMel
from audio_barlow_twins.shards.stored.shardset import ShardSet, open_shards
from audio_barlow_twins.shards.stored.statistics import Statistics

from ..config import StepKind, TrainConfig
from ..views.base import WaveView
from ..views.norm import PPN_EPOCHS, RunningNorm, SetNorm
from ..views.pipeline import TwoViews, needed_samples, samples_of
from ..views.registry import of_kind
from .ranks import Ranks

SAMPLE = 4096
"""Crops of a wave set from which mean and standard deviation of its log-mel are computed."""
SAMPLE_BATCH = 128


def open_set(config: TrainConfig) -> ShardSet:
    """Open the shards of a run.

    Raises:
        UserError: they are missing, or have another form than the config needs.
    """
    shard_set = open_shards(config.shards)
    waves = shard_set.form.kind == "wave"
    wanted = wave_form() if waves else logmel_form(config.front_end)
    shard_set.form.require(wanted, config.shards)
    if not waves and config.log_mel != "auto":
        raise UserError(
            f"{config.shards} holds log-mel, which --log-mel {config.log_mel} cannot make; drop it"
        )
    if not waves and (names := of_kind(config.chain, WaveView)):
        raise UserError(
            f"{config.shards} holds log-mel, but {', '.join(names)} change waveforms; give a wave "
            "set, such as data/demo/wave, or drop them from --views"
        )
    return shard_set


def absolute(shards: str) -> str:
    """Return the path of a shard set for a process with another working directory, or its URL."""
    where = place(shards)
    return shards if is_remote(where) else str(where.absolute())


def encoder_sizes(config: TrainConfig) -> dict[str, Size]:
    """Return all arguments of a run's encoder, those of options that are not given too."""
    sizes = {"n_mels": config.front_end.n_mels, **default_options(config.encoder)}
    if "unit_frames" in sizes:  # a crop is one unit of a transformer
        sizes["unit_frames"] = config.crop_frames
    return sizes | encoder_options(config.encoder, config.encoder_options)


def crop_length(config: TrainConfig, shard_set: ShardSet) -> int:
    """Return how much to read of a clip: frames of log-mel, or samples; stretching needs more."""
    if shard_set.form.kind == "logmel":
        return config.crop_frames
    n_out = samples_of(config.crop_frames, config.front_end)
    return needed_samples(of_kind(config.chain, WaveView), n_out, config.front_end.sample_rate)


def step_kind(wanted: StepKind, ranks: Ranks) -> Literal["plain", "compiled", "graph"]:
    """Return how to take steps: auto is a CUDA graph where one process has a GPU.

    Raises:
        UserError: there is no GPU to capture a graph on, or there are several processes.
    """
    able = ranks.device.type == "cuda" and ranks.world == 1
    if wanted == "graph" and not able:
        raise UserError(
            f"--step graph takes one process with a GPU, here are {ranks.world} on "
            f"{ranks.device.type}; use --step auto"
        )
    if wanted != "auto":
        return wanted
    return "graph" if able else "plain"


def build_views(
    config: TrainConfig, shard_set: ShardSet, statistics: tuple[float, float], ranks: Ranks
) -> TwoViews:
    """Return the augmentations of a run; `statistics`: mean and deviation of its log-mel."""

    def gather(x: Tensor) -> Tensor:
        return ranks.gather(x, config.batch)

    norm: SetNorm | RunningNorm = SetNorm(*statistics)
    if config.normalise != "set":
        per_view = config.normalise == "ppn-per-view"
        norm = RunningNorm(PPN_EPOCHS * len(shard_set), ranks.device, gather, per_view)
    return TwoViews(
        config.chain,
        norm,
        shape=(config.crop_frames, config.front_end.n_mels),
        front_end=config.front_end if shard_set.form.kind == "wave" else None,
        device=ranks.device,
        gather=gather,
        log_mel=config.log_mel,
    )


def logmel_statistics(config: TrainConfig, shard_set: ShardSet) -> tuple[float, float]:
    """Return mean and standard deviation of a set's log-mel; of a wave set, from SAMPLE crops.

    Frames after the end of a short clip do not count.
    """
    if config.statistics:
        shard_set = open_shards(config.statistics, logmel_form(config.front_end))
    if shard_set.form.kind == "logmel":
        return shard_set.statistics.mean, shard_set.statistics.std
    log_mel, found = LogMel(config.front_end, config.log_mel), Statistics()
    with CropReader(
        shard_set, frames=samples_of(config.crop_frames, config.front_end),
        batch=min(SAMPLE_BATCH, len(shard_set)), seed=config.seed,
        block_shards=config.block_shards, cache=config.cache, run=str(config.run.absolute()),
    ) as reader:  # fmt: skip
        for batch in reader.batches(0, -(-min(SAMPLE, len(shard_set)) // reader.batch)):
            frames = shard_set.n_frames[batch.clips] // config.front_end.hop + 1
            there = torch.arange(config.crop_frames) < torch.from_numpy(frames)[:, None]
            found = found.merge(Statistics.of(log_mel(batch.crops)[there].numpy()))
    return found.mean, found.std

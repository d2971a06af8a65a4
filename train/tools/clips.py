"""One clip by name: a sound file, or a key of a shard set."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.front_end import PCM16_SCALE, FrontEnd
from audio_barlow_twins.shards.stored.shardset import ShardSet
from audio_barlow_twins.shards.stored.sidecar import read_clip, read_rows


def find_wave(name: str, shard_set: ShardSet) -> Tensor:
    """Read the waveform of a file, or of a clip of a wave set: float32 [samples] at 16 kHz.

    Raises:
        UserError: there is no such file and no such key.
    """
    if Path(name).is_file():
        return read_file(Path(name))
    return torch.from_numpy(read_key(name, shard_set)).float() / PCM16_SCALE


def read_file(path: Path) -> Tensor:
    """Read the waveform of a sound file, float32 [samples] at 16 kHz."""
    # Needs ffmpeg, which training does not.
    from audio_barlow_twins.eval.sound.audio import read_audio

    return torch.from_numpy(read_audio(path, FrontEnd().sample_rate))


def read_key(key: str, shard_set: ShardSet) -> np.ndarray:
    """Read the stored array of the clip with a key.

    Raises:
        UserError: the set has no such key.
    """
    if key not in shard_set.keys:
        raise UserError(
            f"{key} is neither a file nor a key of {shard_set.folder}, such as "
            f"{shard_set.keys[0]}; `abt shards ls {shard_set.folder}` lists its shards"
        )
    shard = int(shard_set.shard_of(np.array(shard_set.keys.index(key))))
    stem = shard_set.folder / shard_set.names[shard]
    (row,) = (row for row in read_rows(stem.with_suffix(".parquet")) if row.key == key)
    with stem.with_suffix(".tar").open("rb") as tar:
        return read_clip(tar, row, shard_set.form)

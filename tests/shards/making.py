"""Small shard sets for the tests of this room, and how to read them without it."""

import io
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import soundfile

from audio_barlow_twins.shards.stored.form import Form, logmel_form, wave_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.sidecar import Row
from audio_barlow_twins.shards.stored.writer import shard_name, writing_shard

ROOT = Path(__file__).parents[2]

SMALL = FrontEnd(n_mels=4)
"""Four mel bins: clips of a few hundred bytes."""


def row(key: str, **known) -> Row:
    """Make the row of a planned clip."""
    defaults = {
        "status": "ok",
        "source": "test",
        "source_version": "none",
        "origin": f"{key}.flac",
        "labels": ["bell", "Töne"],
        "start_s": 0.0,
        "end_s": 1.5,
        "tried_at": datetime(2026, 9, 2, 7, 30, 1, tzinfo=UTC),
        "identity": "proxy 1",
    }
    return Row(key=key, **{**defaults, **known})


def failed_row(key: str) -> Row:
    """Make the row of a clip that could not be had."""
    return row(key, status="failed", failure="bad_audio", message="no sound in it")


def noise(form: Form, length: int, seed: int) -> np.ndarray:
    """Make one clip of noise in the type and shape of `form`, [length, ...]."""
    rng = np.random.default_rng(seed)
    if form.kind == "wave":
        return rng.integers(-32768, 32768, length, dtype=np.int16)
    return rng.normal(-5, 5, (length, *form.frame_shape)).astype(np.float16)


def write_set(
    folder: Path, form: Form, shards: Sequence[Mapping[str, np.ndarray | None]], plan: str = "plan"
) -> Path:
    """Write a shard for every mapping of keys to arrays; None is a clip that failed."""
    for number, clips in enumerate(shards):
        with writing_shard(folder, shard_name(number), form, plan) as writer:
            for key, array in clips.items():
                if array is None:
                    writer.fail(failed_row(key))
                else:
                    writer.add(row(key), array)
    return folder


def noise_set(folder: Path, form: Form, lengths: Sequence[Sequence[int]]) -> Path:
    """Write shards of noise, one for every list of clip lengths."""
    shards = [
        {f"clip{i}_{j}": noise(form, length, 100 * i + j) for j, length in enumerate(shard)}
        for i, shard in enumerate(lengths)
    ]
    return write_set(folder, form, shards)


def arrays_of(folder: Path) -> list[np.ndarray]:
    """Read all clips of a set, in its order, with tarfile, numpy and libsndfile alone."""
    arrays = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                data = io.BytesIO(tar.extractfile(member).read())  # type: ignore[union-attr]
                if member.name.endswith(".npy"):
                    arrays.append(np.load(data))
                elif member.name.endswith(".wav"):
                    samples, sample_rate = soundfile.read(data, dtype="int16")
                    assert sample_rate == 16000
                    arrays.append(samples)
    return arrays


def small_form(kind: str) -> Form:
    """Return the form of small clips of a kind."""
    return wave_form() if kind == "wave" else logmel_form(SMALL)


def python(*arguments: str, **options) -> subprocess.Popen:
    """Start a fresh interpreter that sees the project."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )

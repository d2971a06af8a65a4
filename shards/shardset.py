"""A shard set opened for reading: where every clip's frames lie, held in a few flat arrays."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from shards.cli import UserError
from shards.form import Form
from shards.sidecar import read_summary
from shards.statistics import Statistics


@dataclass(frozen=True, kw_only=True)
class ShardSet:
    """The index of a set: 12 bytes a clip. Clips are numbered by shard name, then row."""

    folder: Path
    form: Form
    names: list[str]
    """Stems of the shards, sorted."""
    first: np.ndarray
    """Number of each shard's first clip, and the total: int64 [shards + 1]."""
    tar_bytes: list[int]
    """Size of each shard's tar."""
    offsets: np.ndarray
    """First byte of each clip's frames in its tar, int64 [clips]."""
    n_frames: np.ndarray
    """Steps along time of each clip, int32 [clips]."""
    statistics: Statistics
    fingerprint: str
    """Hash over the sidecars' checksums, 32 hex digits."""

    def __len__(self) -> int:
        return len(self.offsets)

    def shard_of(self, clips: np.ndarray) -> np.ndarray:
        """Return the number of the shard that holds each clip, int64 [N]."""
        return np.searchsorted(self.first, clips, side="right") - 1

    @property
    def hours(self) -> float:
        """Length of all clips together."""
        return int(self.n_frames.sum(dtype=np.int64)) / self.form.frames_per_s / 3600

    @cached_property
    def keys(self) -> list[str]:
        """Names of all clips, read from the sidecars on first use."""
        paths = [self.folder / f"{name}.parquet" for name in self.names]
        tables = [pq.read_table(path, columns=["key", "offset"]).drop_null() for path in paths]
        return [key for table in tables for key in table["key"].to_pylist()]


def sidecar_paths(folder: Path | str) -> list[Path]:
    """List a set's sidecars by name.

    Raises:
        UserError: the folder is missing or holds no finished shard.
    """
    if "://" in str(folder):
        raise UserError(f"{folder} is a URL; this version reads local shard sets, copy it first")
    paths = sorted(Path(folder).glob("shard-*.parquet"))
    if not paths:
        found = "holds no finished shard" if Path(folder).is_dir() else "does not exist"
        raise UserError(f"{folder} {found}; make it with `make ingest` or name another folder")
    return paths


def open_shards(folder: Path | str, wanted: Form | None = None) -> ShardSet:
    """Read a set's sidecars into an index.

    Args:
        folder: the shard set.
        wanted: refuse a set of another kind or front-end.

    Raises:
        UserError: no finished shard, another front-end, or shards that do not belong together.
    """
    paths = sidecar_paths(folder)
    summaries = [read_summary(path) for path in paths]
    form = wanted or summaries[0].form
    first = np.concatenate([[0], np.cumsum([summary.n_ok for summary in summaries])])
    if not first[-1]:
        raise UserError(
            f"{folder} holds no clip: all failed; see `python -m shards stats {folder}`"
        )
    offsets, n_frames = np.empty(first[-1], np.int64), np.empty(first[-1], np.int32)
    fingerprint = hashlib.blake2b(digest_size=16)
    for i, (path, summary) in enumerate(zip(paths, summaries, strict=True)):
        summary.form.require(form, str(path))
        fingerprint.update(f"{path.stem} {summary.checksum}\n".encode())
        table = pq.read_table(path, columns=["offset", "n_frames"]).drop_null()
        if len(table) != summary.n_ok:
            raise UserError(f"{path} lists {len(table)} clips, its footer says {summary.n_ok}")
        offsets[first[i] : first[i + 1]] = table["offset"].to_numpy()
        n_frames[first[i] : first[i + 1]] = table["n_frames"].to_numpy()
    return ShardSet(
        folder=Path(folder),
        form=form,
        names=[path.stem for path in paths],
        first=first,
        tar_bytes=[summary.tar_bytes for summary in summaries],
        offsets=offsets,
        n_frames=n_frames,
        statistics=Statistics.merged(summary.statistics for summary in summaries),
        fingerprint=fingerprint.hexdigest(),
    )

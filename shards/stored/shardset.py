"""A shard set opened for reading: where every clip's frames are, in a few flat arrays."""

import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..base.digest import digest
from ..base.errors import UserError
from ..base.place import place, reaching, read_each
from .form import Form
from .sidecar import Sidecar, Summary
from .statistics import Statistics


@dataclass(frozen=True, kw_only=True)
class ShardSet:
    """The index of a set: 12 bytes a clip. Clips are numbered by shard name, then row."""

    folder: Path
    form: Form
    names: list[str]
    """Stems of the shards, in `name_order`."""
    first: np.ndarray
    """Number of each shard's first clip, and the total: int64 [shards + 1]."""
    tar_bytes: list[int]
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
        return int(self.n_frames.sum(dtype=np.int64)) / self.form.frames_per_s / 3600

    @cached_property
    def keys(self) -> list[str]:
        """Keys of all clips, read from the sidecars on first use."""
        paths = [self.folder / f"{name}.parquet" for name in self.names]
        return [key for keys in read_each(_read_keys, paths) for key in keys]


def finished_shards(folder: Path) -> list[Path]:
    """List the sidecars in a folder, as `sidecar_paths` does; none if there is no set yet."""
    with reaching(folder):
        return sorted(folder.glob("shard-*.parquet"), key=lambda path: name_order(path.stem))


def sidecar_paths(folder: Path | str) -> list[Path]:
    """List a set's sidecars: each shard followed by its supplements, in the order of their numbers.

    Raises:
        UserError: the set is missing or holds no finished shard.
    """
    folder = place(folder)
    paths = finished_shards(folder)
    if not paths:
        found = "holds no finished shard" if folder.is_dir() else "does not exist"
        raise UserError(f"{folder} {found}; make it with `make ingest` or name another folder")
    return paths


def name_order(name: str) -> tuple[list[str | int], str]:
    """Return a sort key: shard-000002 before shard-000002-r9 before shard-000002-r10."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def open_shards(folder: Path | str, wanted: Form | None = None) -> ShardSet:
    """Read a set's sidecars into an index.

    Args:
        wanted: form that the set must have; default: any.

    Raises:
        UserError: no finished shard, another front-end, or shards that do not belong together.
    """
    folder = place(folder)
    paths = sidecar_paths(folder)
    offsets, n_frames = array("q"), array("i")  # they grow in place, without a second copy
    summaries: list[Summary] = []
    for path, (summary, table) in zip(paths, read_each(_read_index, paths), strict=True):
        wanted = wanted or summary.form
        summary.form.require(wanted, str(path))
        if len(table) != summary.n_ok:
            raise UserError(f"{path} lists {len(table)} clips, its footer says {summary.n_ok}")
        offsets.frombytes(table["offset"].to_numpy().tobytes())
        n_frames.frombytes(table["n_frames"].to_numpy().astype(np.int32).tobytes())
        summaries.append(summary)
    if wanted is None or not offsets:
        raise UserError(f"{folder} holds no clip: all failed; see `abt shards stats {folder}`")
    return ShardSet(
        folder=folder,
        form=wanted,
        names=[path.stem for path in paths],
        first=np.concatenate([[0], np.cumsum([summary.n_ok for summary in summaries])]),
        tar_bytes=[summary.tar_bytes for summary in summaries],
        offsets=np.frombuffer(offsets, np.int64),
        n_frames=np.frombuffer(n_frames, np.int32),
        statistics=Statistics.merged(summary.statistics for summary in summaries),
        fingerprint=fingerprint_of(
            {path.stem: summary for path, summary in zip(paths, summaries, strict=True)}
        ),
    )


def fingerprint_of(summaries: Mapping[str, Summary]) -> str:
    """Return the hash of a set with these shards, which are in `name_order`, by their stems."""
    return digest("".join(f"{name} {each.checksum}\n" for name, each in summaries.items()))


def _read_index(path: Path) -> tuple[Summary, pa.Table]:
    sidecar = Sidecar(path)
    return sidecar.summary(), sidecar.present("offset", "n_frames")


def _read_keys(path: Path) -> list[str]:
    return Sidecar(path).present("key", "offset")["key"].to_pylist()

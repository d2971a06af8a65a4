"""Write one shard: a tar whose bytes depend on its clips alone, then the sidecar, its commit."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import webdataset

from shards.cli import UserError
from shards.files import replacing
from shards.form import Form
from shards.logmel import PCM16_SCALE
from shards.sidecar import Row, Summary, read_summary, rows_checksum, write_sidecar
from shards.statistics import Statistics

KEY_BYTES = 95
"""Longest key: a tar header holds names of 100 bytes."""


def shard_name(number: int) -> str:
    """Return the stem of shard `number`, for instance `shard-000017`."""
    return f"shard-{number:06d}"


@dataclass(frozen=True)
class ShardReport:
    """What became of the clips of one shard."""

    clips: int
    outcomes: dict[str, int]
    """Clips by outcome: ok, or the class of the failure."""


class ShardWriter:
    """Append clips to an open tar and remember their rows; made by `writing_shard`."""

    def __init__(self, tar: webdataset.TarWriter, form: Form) -> None:
        self.tar, self.form = tar, form
        self.rows: list[Row] = []
        self.statistics = Statistics()

    def add(self, row: Row, array: np.ndarray) -> None:
        """Store one clip; its place and statistics are filled into the row.

        Raises:
            ValueError: stock WebDataset would not find the clip again under its key.
        """
        if not 0 < len(row.key.encode()) <= KEY_BYTES or set(row.key) & set("./"):
            raise ValueError(f"key {row.key!r} is not 1 to {KEY_BYTES} bytes without dot and slash")
        payload = self.form.encode(array)
        about = {"key": row.key, "labels": row.labels, "start_s": row.start_s, "end_s": row.end_s}
        begin = self.tar.tarstream.offset
        self.tar.write(
            {
                "__key__": row.key,
                "json": json.dumps(about, ensure_ascii=False).encode(),
                self.form.suffix: payload,
            }
        )
        end = self.tar.tarstream.offset
        values = Statistics.of(array / PCM16_SCALE if self.form.kind == "wave" else array)
        self.statistics = self.statistics.merge(values)
        # The array file is the record's last member and the frames are that file's last bytes.
        padding = -len(payload) % 512
        self.rows.append(
            replace(
                row,
                record_offset=begin,
                record_bytes=end - begin,
                offset=end - padding - array.nbytes,
                n_frames=len(array),
                mean=values.mean,
                m2=values.m2,
            )
        )

    def fail(self, row: Row) -> None:
        """Store the row of a clip that is not there."""
        self.rows.append(row)

    def report(self) -> ShardReport:
        """Count the rows so far by outcome."""
        outcomes = Counter(row.failure or row.status for row in self.rows)
        return ShardReport(len(self.rows), dict(outcomes))


@contextmanager
def writing_shard(folder: Path, name: str, form: Form, plan: str) -> Iterator[ShardWriter]:
    """Yield a writer; leaving the block without an error commits the tar, then its sidecar.

    Args:
        folder: the shard set.
        name: stem of the two files, see `shard_name`.
        form: what the clips are.
        plan: hash of the planned clips, kept in the sidecar.
    """
    tar_path = folder / f"{name}.tar"
    with replacing(tar_path) as scratch:
        with (
            scratch.open("wb") as file,
            webdataset.TarWriter(file, user="", group="", mtime=0, encoder=False) as tar,
        ):
            writer = ShardWriter(tar, form)
            yield writer
        rows = _with_checksums(scratch, writer.rows)
        # From here on the old sidecar, if there is one, would describe another tar.
        (folder / f"{name}.parquet").unlink(missing_ok=True)
    summary = Summary(
        form=form,
        plan=plan,
        tar_bytes=tar_path.stat().st_size,
        n_ok=sum(row.status == "ok" for row in rows),
        checksum=rows_checksum(rows),
        statistics=writer.statistics,
    )
    write_sidecar(folder / f"{name}.parquet", rows, summary)


def is_committed(folder: Path, name: str, form: Form, plan: str) -> bool:
    """Tell whether a shard is finished, so that its stage need not make it again.

    Raises:
        UserError: the folder holds a shard of this name made of other clips or another front-end.
    """
    sidecar = folder / f"{name}.parquet"
    if not (sidecar.exists() and sidecar.with_suffix(".tar").exists()):
        return False
    summary = read_summary(sidecar)
    summary.form.require(form, str(sidecar))
    if summary.plan != plan:
        raise UserError(
            f"{sidecar} was made from another list of clips or another shard size; "
            f"name another folder, or delete {folder} to make it again"
        )
    return True


def record_checksum(record: bytes) -> str:
    """Hash a clip's members as they stand in the tar, 32 hex digits."""
    return hashlib.blake2b(record, digest_size=16).hexdigest()


def _with_checksums(tar_path: Path, rows: list[Row]) -> list[Row]:
    """Read back what was written, in order, and add each clip's checksum."""
    with tar_path.open("rb") as file:
        return [
            row
            if row.record_bytes is None
            else replace(row, checksum=record_checksum(file.read(row.record_bytes)))
            for row in rows
        ]

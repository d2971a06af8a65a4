"""Write one shard: a tar whose bytes depend only on its clips, then the sidecar that commits it."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..base.digest import digest
from ..base.errors import UserError
from ..base.files import naming_full_disk, replacing
from ..base.place import reaching, read_each
from .form import Form
from .front_end import PCM16_SCALE
from .sidecar import Row, Summary, read_summary, rows_checksum, write_sidecar
from .statistics import Statistics

if TYPE_CHECKING:
    import webdataset

KEY_BYTES = 95
"""Longest key: a tar header holds names of 100 bytes."""


def shard_name(number: int, supplement: int = 0) -> str:
    """Return the stem of a shard, such as shard-000017, or of a supplement, shard-000017-r1.

    A supplement holds clips that were planned for the shard and failed in it.
    """
    return f"shard-{number:06d}" + (f"-r{supplement}" if supplement else "")


@dataclass(frozen=True)
class ShardReport:
    """How many clips of one shard had which outcome: ok, or the class of the failure."""

    clips: int
    outcomes: dict[str, int]


class ShardWriter:
    """Append clips to an open tar and remember their rows; made by `writing_shard`."""

    def __init__(self, tar: "webdataset.TarWriter", form: Form, folder: Path) -> None:
        self.tar, self.form, self.folder = tar, form, folder
        self.rows: list[Row] = []
        self.statistics = Statistics()

    def add(self, row: Row, array: np.ndarray) -> None:
        """Store one clip; its place and statistics are filled into the row.

        Raises:
            ValueError: stock WebDataset would not find the clip under its key.
            UserError: the disk is full.
        """
        if not 0 < len(row.key.encode()) <= KEY_BYTES or set(row.key) & set("./"):
            raise ValueError(f"key {row.key!r} is not 1 to {KEY_BYTES} bytes without dot and slash")
        payload = self.form.encode(array)
        about = {"key": row.key, "labels": row.labels, "start_s": row.start_s, "end_s": row.end_s}
        begin = self.tar.tarstream.offset
        sample = {
            "__key__": row.key,
            "json": json.dumps(about, ensure_ascii=False).encode(),
            self.form.suffix: payload,
        }
        with naming_full_disk(self.folder):
            self.tar.write(sample)
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
        """Record a clip that failed."""
        self.rows.append(row)

    def report(self) -> ShardReport:
        """Count the rows so far by outcome."""
        outcomes = Counter(row.failure or row.status for row in self.rows)
        return ShardReport(len(self.rows), dict(outcomes))


@contextmanager
def writing_shard(folder: Path, name: str, form: Form, plan: str) -> Iterator[ShardWriter]:
    """Yield a writer; leaving the block without an error commits the tar, then its sidecar.

    Args:
        name: stem of the two files, see `shard_name`.
        plan: hash of the planned clips, kept in the sidecar.

    Raises:
        UserError: a disk is full, or a remote place cannot be written.
    """
    import webdataset  # imports torch, which whoever plans shards does without

    sidecar = folder / f"{name}.parquet"
    with replacing(folder / f"{name}.tar") as scratch:
        with (
            scratch.open("wb") as file,
            webdataset.TarWriter(file, user="", group="", mtime=0, encoder=False) as tar,
        ):
            writer = ShardWriter(tar, form, scratch.parent)
            yield writer
        rows = _with_checksums(scratch, writer.rows)
        summary = Summary(
            form=form,
            plan=plan,
            tar_bytes=scratch.stat().st_size,
            n_ok=sum(row.status == "ok" for row in rows),
            checksum=rows_checksum(rows),
            statistics=writer.statistics,
        )
        # The old sidecar, if there is one, would describe another tar.
        with reaching(sidecar):
            sidecar.unlink(missing_ok=True)
    write_sidecar(sidecar, rows, summary)


def is_committed(folder: Path, name: str, form: Form, plan: str) -> bool:
    """Tell whether a shard is finished; raise UserError if its clips or front-end are others."""
    sidecar = folder / f"{name}.parquet"
    with reaching(folder):
        if not (sidecar.exists() and sidecar.with_suffix(".tar").exists()):
            return False
    require_plan(folder, name, _plan_of(sidecar, form), plan)
    return True


def committed_plans(folder: Path, form: Form) -> dict[str, str]:
    """Return the plan of every finished shard by its name; {} if the folder is missing.

    Raises:
        UserError: the folder holds a shard of another front-end, or a damaged sidecar.
    """
    with reaching(folder):
        listed = {path.name: path for path in folder.glob("shard-*")}
    sidecars = [
        path
        for name, path in sorted(listed.items())
        if name.endswith(".parquet") and f"{path.stem}.tar" in listed
    ]
    plans = read_each(lambda path: _plan_of(path, form), sidecars)
    return {path.stem: plan for path, plan in zip(sidecars, plans, strict=True)}


def require_plan(folder: Path, name: str, found: str, wanted: str) -> None:
    """Raise UserError if a finished shard was made from other clips."""
    if found != wanted:
        raise UserError(
            f"{folder / name}.parquet was made from another list of clips or another shard size; "
            f"name another folder, or delete {folder} to make it again"
        )


def _plan_of(sidecar: Path, form: Form) -> str:
    summary = read_summary(sidecar)
    summary.form.require(form, str(sidecar))
    return summary.plan


def _with_checksums(tar_path: Path, rows: list[Row]) -> list[Row]:
    """Read back the records in order and add each clip's checksum to its row."""
    with tar_path.open("rb") as file:
        return [
            row
            if row.record_bytes is None
            else replace(row, checksum=digest(file.read(row.record_bytes)))
            for row in rows
        ]

"""Check a shard set byte by byte against its sidecars; findings name the shard and the clip."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..base.digest import digest
from ..base.errors import UserError
from ..base.place import reaching
from .form import Form
from .shardset import sidecar_paths
from .sidecar import Row, Sidecar, Summary


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    shard: str
    key: str
    """The clip, '' for the whole shard."""
    problem: str

    def __str__(self) -> str:
        return f"{self.shard} {self.key or '(whole shard)'}: {self.problem}"


def verify(folder: Path | str, threads: int = 4) -> Iterator[list[Finding]]:
    """Yield the findings of each shard in the order of names; none for a sound shard.

    Every shard must have the form of the first readable sidecar. A clip may be planned again in
    a later shard, a supplement, but must be in one tar only.
    """
    paths = sidecar_paths(folder)
    stored: dict[str, str] = {}
    form: Form | None = None
    with ThreadPoolExecutor(threads) as pool:
        for path, (summary, rows, findings) in zip(paths, pool.map(_check, paths), strict=True):
            if summary:
                form = form or summary.form
                findings += _check_form(path, summary, form)
            yield [*findings, *_check_keys(path.stem, rows, stored)]


def _check_keys(shard: str, rows: list[Row], stored: dict[str, str]) -> Iterator[Finding]:
    """Find duplicate clips; adds the shard of every stored clip to `stored`."""
    listed: set[str] = set()
    for row in rows:
        ok = row.status == "ok"
        if row.key in listed or (ok and row.key in stored):
            first = stored.get(row.key, shard)
            yield Finding(shard, row.key, f"duplicate key, first in {first}")
        listed.add(row.key)
        if ok:
            stored.setdefault(row.key, shard)


def _check(path: Path) -> tuple[Summary | None, list[Row], list[Finding]]:
    shard = path.stem
    try:
        sidecar = Sidecar(path)
        summary, rows = sidecar.summary(), sidecar.rows()
    except UserError as error:
        return None, [], [Finding(shard, "", str(error))]
    findings = []
    if not sidecar.is_intact(rows):
        findings.append(Finding(shard, "", "the sidecar does not match its own hash"))
    tar = path.with_suffix(".tar")
    try:
        size = tar.stat().st_size
    except FileNotFoundError:
        return summary, rows, [*findings, Finding(shard, "", f"{tar.name} is missing")]
    if size != summary.tar_bytes:
        problem = f"{tar.name} has {size} bytes, written were {summary.tar_bytes}"
        findings.append(Finding(shard, "", problem))
    with reaching(tar), tar.open("rb") as file:
        findings += _check_records(shard, file, size, rows)
    return summary, rows, findings


def _check_records(shard: str, file: BinaryIO, size: int, rows: list[Row]) -> Iterator[Finding]:
    """Compare every clip's bytes with its checksum, and the rest of the tar with zeros."""
    end = 0
    for row in rows:
        if row.record_offset is None or row.record_bytes is None:
            continue
        # Records follow each other without a gap, unless the sidecar is damaged.
        if row.record_offset != end or row.record_bytes < 0:
            yield Finding(shard, row.key, "the sidecar puts this clip in a wrong place")
            return
        end += row.record_bytes
        if end > size:
            yield Finding(shard, row.key, "the tar ends inside this clip")
        elif digest(file.read(row.record_bytes)) != row.checksum:
            yield Finding(shard, row.key, "the bytes of this clip do not match its checksum")
    file.seek(min(end, size))
    if any(file.read()):
        yield Finding(shard, "", "there is data after the last clip")


def _check_form(sidecar: Path, summary: Summary, form: Form) -> Iterator[Finding]:
    try:
        summary.form.require(form, "the sidecar")
    except UserError as error:
        yield Finding(sidecar.stem, "", str(error))

"""Check a shard set byte by byte against its sidecars, naming the shard and the clip."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from shards.cli import UserError
from shards.form import Form
from shards.shardset import sidecar_paths
from shards.sidecar import Row, Summary, is_intact, read_rows, read_summary
from shards.writer import record_checksum


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    shard: str
    """Stem of the shard's files."""
    key: str
    """The clip, '' where the whole shard is concerned."""
    problem: str
    """What is wrong, for people."""

    def __str__(self) -> str:
        return f"{self.shard} {self.key or '(whole shard)'}: {self.problem}"


def verify(folder: Path, threads: int = 4) -> Iterator[list[Finding]]:
    """Yield the findings of each shard in the order of names; an empty list is a sound shard.

    Every shard must have the form of the first readable sidecar.
    """
    paths = sidecar_paths(folder)
    seen: dict[str, str] = {}
    form: Form | None = None
    with ThreadPoolExecutor(threads) as pool:
        for path, (summary, rows, findings) in zip(paths, pool.map(_check, paths), strict=True):
            if summary:
                form = form or summary.form
                findings += _check_form(path, summary, form)
            for row in rows:
                if row.key in seen:
                    problem = f"duplicate key, first in {seen[row.key]}"
                    findings.append(Finding(path.stem, row.key, problem))
                seen.setdefault(row.key, path.stem)
            yield findings


def _check(sidecar: Path) -> tuple[Summary | None, list[Row], list[Finding]]:
    """Check one shard for itself."""
    try:
        summary, rows = read_summary(sidecar), read_rows(sidecar)
    except UserError as error:
        return None, [], [Finding(sidecar.stem, "", str(error))]
    findings = []
    if not is_intact(sidecar, rows):
        findings.append(Finding(sidecar.stem, "", "the sidecar does not match its own hash"))
    tar = sidecar.with_suffix(".tar")
    if not tar.exists():
        return summary, rows, [*findings, Finding(sidecar.stem, "", f"{tar.name} is missing")]
    size = tar.stat().st_size
    if size != summary.tar_bytes:
        problem = f"{tar.name} has {size} bytes, written were {summary.tar_bytes}"
        findings.append(Finding(sidecar.stem, "", problem))
    with tar.open("rb") as file:
        findings += _check_records(sidecar.stem, file, rows)
    return summary, rows, findings


def _check_records(shard: str, file: BinaryIO, rows: list[Row]) -> Iterator[Finding]:
    """Compare every clip's bytes with its checksum, and the rest of the tar with zeros."""
    size, end = os.fstat(file.fileno()).st_size, 0
    for row in rows:
        if row.record_offset is None or row.record_bytes is None:
            continue
        # Records lie one behind the other; anything else is a damaged sidecar, no place to read.
        if row.record_offset != end or row.record_bytes < 0:
            yield Finding(shard, row.key, "the sidecar puts this clip in a wrong place")
            return
        end += row.record_bytes
        if end > size:
            yield Finding(shard, row.key, "the tar ends inside this clip")
        elif record_checksum(file.read(row.record_bytes)) != row.checksum:
            yield Finding(shard, row.key, "the bytes of this clip do not match its checksum")
    file.seek(min(end, size))
    if any(file.read()):
        yield Finding(shard, "", "there is something behind the last clip")


def _check_form(sidecar: Path, summary: Summary, form: Form) -> Iterator[Finding]:
    try:
        summary.form.require(form, "the sidecar")
    except UserError as error:
        yield Finding(sidecar.stem, "", str(error))

"""Commands that look at a shard set: `ls`, `stats`, `verify`."""

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from .base.cli import Positional, say
from .base.place import read_each
from .stored.shardset import open_shards, sidecar_paths
from .stored.sidecar import Row, Sidecar, Summary, read_rows
from .stored.verify import verify


@dataclass(frozen=True, kw_only=True)
class Ls:
    """List the shards of a set: clips, failures, size, hours."""

    folder: Positional[str]
    """The shard set: a folder, or a URL such as s3://bucket/set."""

    def run(self) -> None:
        paths = sidecar_paths(self.folder)
        for path, (summary, rows) in zip(paths, read_each(_read_whole, paths), strict=True):
            seconds = sum(row.n_frames or 0 for row in rows) / summary.form.frames_per_s
            say(
                f"{path.stem}  {summary.form.kind}  {summary.n_ok:6d} clips  "
                f"{len(rows) - summary.n_ok:5d} failed  {summary.tar_bytes / 1e6:9.1f} MB  "
                f"{seconds / 3600:8.3f} h"
            )


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Summarise a set: mean and deviation, hours, labels, failures by class with examples."""

    folder: Positional[str]
    """The shard set: a folder, or a URL such as s3://bucket/set."""
    examples: int = 3
    """Failed clips to show of each class."""

    def run(self) -> None:
        shard_set, (labels, failed) = open_shards(self.folder), _labels_and_failures(self.folder)
        form, values = shard_set.form, shard_set.statistics
        planned = len(shard_set) + len(failed)
        say(
            f"kind         {form.kind}, {', '.join(f'{k}={v}' for k, v in form.parameters.items())}"
        )
        say(f"clips        {len(shard_set)} of {planned} planned, {shard_set.hours:.3f} h")
        say(f"mean, std    {values.mean:.4f}, {values.std:.4f} over {values.count} values")
        say(f"fingerprint  {shard_set.fingerprint}")
        say(f"labels       {', '.join(f'{k} {n}' for k, n in labels.most_common(20)) or 'none'}")
        for failure, n in Counter(row.failure for row in failed).most_common():
            say(f"failed       {failure}: {n}")
            for row in [row for row in failed if row.failure == failure][: self.examples]:
                say(f"             {row.origin}: {row.message}")


def _labels_and_failures(folder: str) -> tuple[Counter[str], list[Row]]:
    """Count the labels of stored clips; return the last failure of every other clip."""
    labels, stored, failed = Counter[str](), set[str](), dict[str, Row]()
    for rows in read_each(read_rows, sidecar_paths(folder)):
        for row in rows:
            if row.status == "ok":
                labels.update(row.labels)
                stored.add(row.key)
            else:
                failed[row.key] = row
    return labels, [row for key, row in failed.items() if key not in stored]


def _read_whole(path: Path) -> tuple[Summary, list[Row]]:
    sidecar = Sidecar(path)
    return sidecar.summary(), sidecar.rows()


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Compare every byte of a set with its sidecars; exit code 1 if anything is wrong."""

    folder: Positional[str]
    """The shard set: a folder, or a URL such as s3://bucket/set."""

    def run(self) -> None:
        n_shards = len(sidecar_paths(self.folder))
        findings = [
            finding
            for found in tqdm(verify(self.folder), total=n_shards, unit="shard")
            for finding in found
        ]
        for finding in findings:
            say(str(finding))
        say(f"{n_shards} shards, {len(findings) or 'no'} findings")
        sys.exit(1 if findings else 0)

"""Totals of a shard set, from its sidecars."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.place import read_each
from audio_barlow_twins.shards.stored.form import Form
from audio_barlow_twins.shards.stored.shardset import fingerprint_of
from audio_barlow_twins.shards.stored.sidecar import Summary, read_columns, read_summary
from audio_barlow_twins.shards.stored.statistics import Statistics

from ..stage.ledger import base_and_number

OK = "ok"
WHO = ["source", "source_version", "identity", "outcome"]
VALUES = ["n_frames", "mean", "m2"]
TIMES = ["start_s", "end_s"]
QUIETEST_DB = -120.0


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Totals of one set; a clip that was tried again counts once, by its best outcome."""

    form: Form
    summaries: dict[Path, Summary]
    """What each sidecar says of its shard, in the order of `sidecar_paths`."""
    outcomes: pa.Table
    """`WHO` and the number of clips in each shard; an outcome is `ok` or a class of failure."""
    present: pa.Table
    """`VALUES` of the stored clips, and `seconds` in their recordings."""
    lost: pa.Table
    """Outcome, message and key of the others, and `seconds`, null where that is not known."""

    @property
    def planned(self) -> int:
        return len(self.present) + len(self.lost)

    @property
    def tar_bytes(self) -> int:
        return sum(summary.tar_bytes for summary in self.summaries.values())

    @property
    def values(self) -> Statistics:
        return Statistics.merged(summary.statistics for summary in self.summaries.values())

    @property
    def fingerprint(self) -> str:
        return fingerprint_of({path.stem: each for path, each in self.summaries.items()})

    def count(self, *columns: str) -> Counter[tuple[str, ...]]:
        """Count planned clips by some of `WHO`."""
        sums = self.outcomes.group_by(columns).aggregate([("count_all", "sum")]).to_pydict()
        counts = sums.pop("count_all_sum")
        return Counter(dict(zip(zip(*sums.values(), strict=True), counts, strict=True)))

    def messages(self, outcome: str) -> list[tuple[int, str, str]]:
        """Return number of clips, message and a key for a class, the most frequent first."""
        lost = self.lost.filter(pc.equal(self.lost["outcome"], outcome))
        groups = lost.group_by("message", use_threads=False)  # threads would change the order
        found = groups.aggregate([([], "count_all"), ("key", "first")]).to_pydict()
        rows = zip(found["count_all"], found["message"], found["key_first"], strict=True)
        return sorted(((n, text or "", key) for n, text, key in rows), key=lambda x: (-x[0], x[1]))

    @property
    def stored_s(self) -> float:
        """Sound of the stored clips, s."""
        return pc.sum(self.present["seconds"]).as_py() or 0.0

    @property
    def refused(self) -> list[tuple[str, float, int]]:
        """Sound of the others, s, by outcome, the most first; and how many have no known length."""
        sums = self.lost.group_by("outcome").aggregate(
            [("seconds", "sum"), ("seconds", "count"), ([], "count_all")]
        )
        rows = [
            (row["outcome"], row["seconds_sum"] or 0.0, row["count_all"] - row["seconds_count"])
            for row in sums.to_pylist()
        ]
        return sorted(rows, key=lambda row: (-row[1], row[0]))

    @property
    def came_in_s(self) -> float:
        """Sound of all clips whose length is known, s."""
        return self.stored_s + sum(seconds for _, seconds, _ in self.refused)

    @property
    def durations(self) -> np.ndarray:
        """Length of each stored clip, s: float [ok]."""
        return self.present["n_frames"].to_numpy() / self.form.frames_per_s

    @property
    def levels(self) -> np.ndarray:
        """Loudness of each: RMS in dB of full scale (wave), or mean of the log-mel (logmel)."""
        n_frames, mean, m2 = (self.present[name].to_numpy() for name in VALUES)
        if self.form.kind == "logmel":
            return mean
        return 10 * np.log10(np.maximum(mean**2 + m2 / n_frames, 10 ** (QUIETEST_DB / 10)))


class Parts:
    """What a tally takes from each shard of a set, so that no sidecar is read twice."""

    def __init__(self) -> None:
        self._parts: dict[tuple[Path, ...], _Part] = {}

    def __len__(self) -> int:
        return len(self._parts)

    def read(self, sidecars: Sequence[Path]) -> Iterator[None]:
        """Read the shards that are new, or have a new supplement; pause after each.

        Args:
            sidecars: all of the set, in the order of `sidecar_paths`.
        """
        groups = groupby(sidecars, key=lambda path: base_and_number(path.stem)[0])
        shards = [tuple(group) for _, group in groups]
        new = [path for shard in shards if shard not in self._parts for path in shard]
        read = read_each(_read, new)
        for shard in shards:
            if shard not in self._parts:
                self._parts[shard] = _part([next(read) for _ in shard])
                yield
        self._parts = {shard: self._parts[shard] for shard in shards}

    def tally(self) -> Tally:
        """Add up the shards: at least one."""
        parts = self._parts.values()
        summaries = {
            path: summary
            for paths, part in self._parts.items()
            for path, summary in zip(paths, part.summaries, strict=True)
        }
        form = next(iter(summaries.values())).form
        for path, summary in summaries.items():
            summary.form.require(form, str(path))
        return Tally(
            form=form,
            summaries=summaries,
            outcomes=pa.concat_tables(part.outcomes for part in parts),
            present=pa.concat_tables(part.present for part in parts),
            lost=pa.concat_tables(part.lost for part in parts),
        )


class _Part(NamedTuple):
    """A shard with its supplements; see `Tally`."""

    summaries: Sequence[Summary]
    outcomes: pa.Table
    present: pa.Table
    lost: pa.Table


def _read(path: Path) -> tuple[Summary, pa.Table]:
    summary = read_summary(path)
    rows = read_columns(path, ["key", "failure", "message", *WHO[:3], *VALUES, *TIMES])
    if (n_ok := rows["failure"].null_count) != summary.n_ok:
        raise UserError(f"{path} lists {n_ok} clips, its footer says {summary.n_ok}")
    return summary, rows


def _part(read: Sequence[tuple[Summary, pa.Table]]) -> _Part:
    return _Part([summary for summary, _ in read], *_sums(_best([rows for _, rows in read])))


def _sums(rows: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Reduce a shard to what a tally needs, so that sets of millions of clips fit in memory."""
    rows = rows.append_column("outcome", pc.fill_null(rows["failure"], OK))
    rows = rows.append_column("seconds", pc.subtract(rows["end_s"], rows["start_s"]))
    is_there = pc.equal(rows["outcome"], OK)
    return (
        rows.group_by(WHO).aggregate([([], "count_all")]),
        rows.select([*VALUES, "seconds"]).filter(is_there),
        rows.select(["outcome", "message", "key", "seconds"]).filter(pc.invert(is_there)),
    )


def _best(tables: list[pa.Table]) -> pa.Table:
    """Keep one row a clip: the stored one, else the latest failure."""
    rows = pa.concat_tables(tables)
    if len(tables) == 1:
        return rows
    failures = rows["failure"].to_pylist()
    best: dict[str, int] = {}
    for number, key in enumerate(rows["key"].to_pylist()):
        if key not in best or failures[best[key]] is not None:
            best[key] = number
    return rows.take(list(best.values()))

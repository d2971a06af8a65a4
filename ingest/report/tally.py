"""Totals of a shard set, from its sidecars."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audio_barlow_twins.shards.base.place import read_each
from audio_barlow_twins.shards.stored.form import Form
from audio_barlow_twins.shards.stored.sidecar import Summary, read_columns, read_summary
from audio_barlow_twins.shards.stored.statistics import Statistics

from ..stage.ledger import base_and_number

OK = "ok"
WHO = ["source", "source_version", "identity", "outcome"]
VALUES = ["n_frames", "mean", "m2"]
QUIETEST_DB = -120.0


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Totals of one set; a clip that was tried again counts once, by its best outcome."""

    form: Form
    shards: int
    tar_bytes: int
    values: Statistics
    outcomes: pa.Table
    """`WHO` and the number of clips in each shard; an outcome is `ok` or a class of failure."""
    present: pa.Table
    """`VALUES` of the stored clips."""
    lost: pa.Table
    """Outcome, message and key of the others."""

    @property
    def planned(self) -> int:
        return len(self.present) + len(self.lost)

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


def tally(sidecars: Sequence[Path]) -> Tally:
    """Add up the sidecars of one set: at least one, in the order of `sidecar_paths`."""
    summaries, parts = [], []
    read = zip(sidecars, read_each(_read, sidecars), strict=True)
    for _, group in groupby(read, key=lambda each: base_and_number(each[0].stem)[0]):
        tables = []
        for _, (summary, table) in group:
            summaries.append(summary)
            tables.append(table)
        parts.append(_sums(_best(tables)))
    outcomes, present, lost = map(pa.concat_tables, zip(*parts, strict=True))
    return Tally(
        form=summaries[0].form,
        shards=len(summaries),
        tar_bytes=sum(summary.tar_bytes for summary in summaries),
        values=Statistics.merged(summary.statistics for summary in summaries),
        outcomes=outcomes, present=present, lost=lost,
    )  # fmt: skip


def _read(path: Path) -> tuple[Summary, pa.Table]:
    return read_summary(path), read_columns(path, ["key", "failure", "message", *WHO[:3], *VALUES])


def _sums(rows: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Reduce a shard to what a tally needs, so that sets of millions of clips fit in memory."""
    rows = rows.append_column("outcome", pc.fill_null(rows["failure"], OK))
    is_there = pc.equal(rows["outcome"], OK)
    return (
        rows.group_by(WHO).aggregate([([], "count_all")]),
        rows.select(VALUES).filter(is_there),
        rows.select(["outcome", "message", "key"]).filter(pc.invert(is_there)),
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

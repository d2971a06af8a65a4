"""What a shard set holds and lacks, added up sidecar by sidecar: two million clips fit."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
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
MOST_MESSAGES = 1000
"""Different messages that are counted of one class; those that come later are not."""

_COLUMNS = ["key", "failure", "message", "source", "source_version", "identity"]
_COLUMNS += ["n_frames", "mean", "m2"]
_LOST = ["outcome", "message", "key"]
_QUIETEST_DB = -120.0


@dataclass
class Bins:
    """Counted values, each in a bin of a fixed width."""

    width: float
    counts: Counter[int] = field(default_factory=Counter)
    """Bin i holds the values from i * width to (i + 1) * width."""

    def add(self, values: np.ndarray) -> None:
        """Count values, float [N]."""
        numbers, n = np.unique(np.floor(values / self.width + 1e-9), return_counts=True)
        self.counts.update(dict(zip(numbers.astype(int).tolist(), n.tolist(), strict=True)))

    def quantile(self, part: float) -> float:
        """Return the lower edge of the bin in which the value at `part` in [0, 1] lies."""
        wanted, seen = part * self.counts.total(), 0
        for number in sorted(self.counts):
            seen += self.counts[number]
            if seen >= wanted:
                break
        return number * self.width

    def histogram(self, most: int = 40, low: float | None = None) -> tuple[list, list]:
        """Join neighbours until at most `most` bins are left; return their edges and counts."""
        first = min(self.counts) if low is None else round(low / self.width)
        last = max(self.counts)
        joined = next(
            by * 10**power
            for power in range(12)
            for by in (1, 2, 5)
            if (last - first) // (by * 10**power) < most - 1
        )
        begin = first // joined
        counts = [0] * (last // joined - begin + 1)
        for number, n in self.counts.items():
            counts[number // joined - begin] += n
        edges = [round((begin + i) * joined * self.width, 9) for i in range(len(counts) + 1)]
        return edges, counts


@dataclass
class Message:
    """Why clips are missing, in words."""

    clips: int
    key: str
    """One of them."""


@dataclass
class Tally:
    """What one set adds up to; a clip that was tried again counts once, by its best outcome."""

    form: Form
    shards: int = 0
    tar_bytes: int = 0
    frames: int = 0
    """Steps along time of all clips that are there."""
    values: Statistics = field(default_factory=Statistics)
    outcomes: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    """Clips by source, its version, identity and outcome; that is `ok` or a class of failure."""
    messages: dict[str, dict[str, Message]] = field(default_factory=dict)
    """The messages of each class."""
    lengths: Bins = field(default_factory=lambda: Bins(0.1))
    """Durations, s."""
    levels: Bins = field(default_factory=lambda: Bins(0.25))
    """Loudness: wave RMS in dB of full scale, logmel the mean of the log-mel."""

    @property
    def planned(self) -> int:
        """Clips that were planned."""
        return self.outcomes.total()

    @property
    def ok(self) -> int:
        """Clips that are there."""
        return self.by(3)[OK]

    @property
    def hours(self) -> float:
        """Length of all clips together."""
        return self.frames / self.form.frames_per_s / 3600

    def by(self, *places: int) -> Counter:
        """Sum the outcomes over all but some places of their tuples."""
        sums = Counter[tuple[str, ...] | str]()
        for names, n in self.outcomes.items():
            sums[names[places[0]] if len(places) == 1 else tuple(names[i] for i in places)] += n
        return sums

    def _add(self, rows: pa.Table) -> None:
        outcome = pc.fill_null(rows["failure"], OK)
        rows = rows.append_column("outcome", outcome)
        names = ["source", "source_version", "identity", "outcome"]
        sums = rows.group_by(names).aggregate([([], "count_all")]).to_pydict()
        for *found, n in zip(*(sums[name] for name in [*names, "count_all"]), strict=True):
            self.outcomes[tuple(found)] += n
        there = rows.filter(pc.equal(rows["outcome"], OK))
        n_frames = there["n_frames"].to_numpy()
        self.frames += int(n_frames.sum())
        if len(there):
            self.lengths.add(n_frames / self.form.frames_per_s)
            self.levels.add(self._levels(there, n_frames))
        lost = rows.filter(pc.not_equal(rows["outcome"], OK))
        for name, text, key in zip(*(lost[c].to_pylist() for c in _LOST), strict=True):
            known = self.messages.setdefault(name, {})
            if (text or "") in known:
                known[text or ""].clips += 1
            elif len(known) < MOST_MESSAGES:
                known[text or ""] = Message(1, key)

    def _levels(self, rows: pa.Table, n_frames: np.ndarray) -> np.ndarray:
        mean, m2 = rows["mean"].to_numpy(), rows["m2"].to_numpy()
        if self.form.kind == "logmel":
            return mean
        power = mean**2 + m2 / n_frames
        return 10 * np.log10(np.maximum(power, 10 ** (_QUIETEST_DB / 10)))


def tally(sidecars: Sequence[Path]) -> Tally:
    """Add up the sidecars of one set: at least one, in the order of `sidecar_paths`."""
    total = Tally(form=read_summary(sidecars[0]).form)
    parts = zip(sidecars, read_each(_read, sidecars), strict=True)
    for _, group in groupby(parts, key=lambda part: base_and_number(part[0].stem)[0]):
        tables = []
        for _, (summary, rows) in group:
            total.shards += 1
            total.tar_bytes += summary.tar_bytes
            total.values = total.values.merge(summary.statistics)
            tables.append(rows)
        total._add(_best(tables))
    return total


def _read(path: Path) -> tuple[Summary, pa.Table]:
    return read_summary(path), read_columns(path, _COLUMNS)


def _best(tables: list[pa.Table]) -> pa.Table:
    """Keep one row a clip: the one that is there, else the latest failure."""
    rows = pa.concat_tables(tables)
    if len(tables) == 1:
        return rows
    best: dict[str, int] = {}
    failures = rows["failure"].to_pylist()
    for number, key in enumerate(rows["key"].to_pylist()):
        if key not in best or failures[best[key]] is not None:
            best[key] = number
    return rows.take(list(best.values()))

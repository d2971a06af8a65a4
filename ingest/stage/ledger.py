"""What became of every planned clip of a shard set, from the rows of its sidecars.

`status` sums up a ledger, `retry` takes the clips to try again from it, `diff` compares two.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from audio_barlow_twins.shards.stored.shardset import sidecar_paths
from audio_barlow_twins.shards.stored.sidecar import read_columns

from ..errors import retry_after

NOT_PLANNED = "not planned"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A clip that no shard of the set holds, by its last try."""

    key: str
    shard: str
    """The shard it was planned for: `shard-000017`, never a supplement."""
    failure: str
    message: str
    attempts: int
    tried_at: datetime
    origin: str
    source: str

    def due(self, classes: frozenset[str], at: datetime | None) -> bool:
        """Tell whether to try again at time `at`: its class allows it, or is one of `classes`.

        Without a time, a class that must wait is due at once.
        """
        pause = retry_after(self.failure)
        if self.failure in classes or at is None:
            return self.failure in classes or pause is not None
        return pause is not None and self.tried_at + pause <= at


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What became of the clips of a set."""

    n_planned: int
    """Clips planned for its finished shards."""
    failures: dict[str, Failure]
    """Clips that are not stored, by key."""
    supplements: dict[str, int]
    """Number of the last supplement of each shard that has one."""
    n_shards: int
    """Finished shards, without supplements."""

    @property
    def outcomes(self) -> Counter[str]:
        counts = Counter({"ok": self.n_planned - len(self.failures)})
        counts.update(each.failure for each in self.failures.values())
        return +counts


_COLUMNS = ["key", "status", "failure", "message", "attempts", "tried_at", "origin", "source"]


def read_ledger(folder: Path) -> Ledger:
    """Read what became of every clip; a clip that was tried again counts by its last try.

    Raises:
        UserError: there is no shard set.
    """
    failures: dict[str, Failure] = {}
    supplements: dict[str, int] = {}
    n_planned = n_shards = 0
    for path in sidecar_paths(folder):  # a shard, then its supplements
        shard, number = base_and_number(path.stem)
        table = read_columns(path, _COLUMNS)
        ok = pc.equal(table["status"], "ok")
        if number:
            supplements[shard] = number
            for key in table.filter(ok)["key"].to_pylist():
                failures.pop(key, None)
        else:
            n_planned, n_shards = n_planned + len(table), n_shards + 1
        for failure in _failures(shard, table.filter(pc.invert(ok))):
            failures[failure.key] = failure
    return Ledger(
        n_planned=n_planned, failures=failures, supplements=supplements, n_shards=n_shards
    )


def base_and_number(name: str) -> tuple[str, int]:
    """Split the name of a supplement: `shard-000017-r2` is number 2 of `shard-000017`."""
    found = re.fullmatch(r"(.*?)(?:-r(\d+))?", name)
    assert found  # it matches every name
    return found[1], int(found[2] or 0)


def _failures(shard: str, table: pa.Table) -> Iterator[Failure]:
    for row in table.to_pylist():
        row.pop("status")
        row["tried_at"] = row["tried_at"] or datetime.fromtimestamp(0, UTC)
        yield Failure(shard=shard, **row)


@dataclass(frozen=True)
class Difference:
    """A clip that one set has and the other lacks."""

    key: str
    present_in: Path
    missing_in: Path
    reason: str
    """Class of the failure in the set that lacks it, or `not planned`."""
    message: str
    """Message of that failure, '' if the clip was not planned there."""


def differences(first: Path, second: Path) -> Iterator[Difference]:
    """Yield the clips that only one of two sets has, those of `first` before those of `second`."""
    ledgers = {first: outcomes(first), second: outcomes(second)}
    for here, there in ((first, second), (second, first)):
        for key, (failure, _) in ledgers[here].items():
            if failure:
                continue
            reason, message = ledgers[there].get(key, (NOT_PLANNED, ""))
            if reason:
                yield Difference(key, here, there, reason, message)


def outcomes(folder: Path) -> dict[str, tuple[str, str]]:
    """Return class and message of every planned clip by its key; both are '' for a stored clip.

    A clip that was tried again counts by its best outcome.
    """
    found: dict[str, tuple[str, str]] = {}
    for path in sidecar_paths(folder):
        columns = read_columns(path, ["key", "failure", "message"]).to_pydict()
        for key, failure, message in zip(*columns.values(), strict=True):
            if found.get(key) != ("", ""):
                found[key] = (failure or "", message or "")
    return found


def summary(outcomes: Counter[str]) -> str:
    """Return outcomes with their numbers as text, the most frequent first."""
    return ", ".join(f"{n} {outcome}" for outcome, n in outcomes.most_common())

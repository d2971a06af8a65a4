"""What two shard sets do not share, and why: the answer to "my AudioSet has fewer clips"."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from shards.shardset import sidecar_paths

NOT_PLANNED = "not planned"


@dataclass(frozen=True)
class Difference:
    """A clip that one set has and the other has not."""

    key: str
    present_in: Path
    missing_in: Path
    reason: str
    """Class of the failure in the set that lacks it, or `not planned`."""
    message: str
    """What that set says of the failure, '' if the clip was never planned there."""


def differences(first: Path, second: Path) -> Iterator[Difference]:
    """Yield the clips that only one of two sets has, those of `first` before those of `second`.

    Raises:
        UserError: one of them is no shard set.
    """
    ledgers = {first: outcomes(first), second: outcomes(second)}
    for here, there in ((first, second), (second, first)):
        for key, (failure, _) in ledgers[here].items():
            if failure:
                continue
            reason, message = ledgers[there].get(key, (NOT_PLANNED, ""))
            if reason:
                yield Difference(key, here, there, reason, message)


def outcomes(folder: Path) -> dict[str, tuple[str, str]]:
    """Read class and message of every planned clip by its key; both are '' for a clip that is ok.

    A clip that was planned twice, because it was tried again, counts by its best outcome.
    """
    found: dict[str, tuple[str, str]] = {}
    for path in sidecar_paths(folder):
        columns = pq.read_table(path, columns=["key", "failure", "message"]).to_pydict()
        for key, failure, message in zip(*columns.values(), strict=True):
            if found.get(key) != ("", ""):
                found[key] = (failure or "", message or "")
    return found


def count_by_reason(found: list[Difference]) -> Counter[tuple[Path, str]]:
    """Count differences by the set that lacks the clip and the reason."""
    return Counter((each.missing_in, each.reason) for each in found)

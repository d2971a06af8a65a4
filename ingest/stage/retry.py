"""Plan supplement shards for clips that failed, without renumbering or rewriting anything."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.shardset import sidecar_paths
from audio_barlow_twins.shards.stored.sidecar import read_columns
from audio_barlow_twins.shards.stored.writer import shard_name

from ..sources.clip import Clip
from .ledger import Failure, Ledger, base_and_number, read_ledger
from .plan import PlannedShard, plan_digest


@dataclass(frozen=True, kw_only=True)
class Again:
    """Which failed clips to try again."""

    classes: frozenset[str] = frozenset()
    """Classes to try besides those that may pass by themselves."""
    at: datetime | None = None
    """Current time; None: do not wait until a class is due."""

    def candidates(self, clip: Clip, failure: Failure) -> Clip | None:
        """Return the clip with the sources worth a try, None if there is none.

        A source that was never tried is; one that failed is if its class of failure allows it.
        """
        sources = (replace(clip, others=()), *clip.others)
        if not failure.due(self.classes, self.at):
            tried = failure.source.split(", ")
            sources = tuple(source for source in sources if source.source not in tried)
        return replace(sources[0], others=sources[1:]) if sources else None


def plan_supplements(
    source: str, clips: Iterable[Clip], sets: Sequence[Path], again: Again
) -> list[PlannedShard]:
    """Plan one supplement for every shard that has clips to try again.

    Args:
        clips: the list that the set was made from; other sources may have been added.
        sets: folders of the shard sets, first the one whose shards are committed last.

    Raises:
        UserError: there is no set, or it was made from another list.
    """
    ledger = read_ledger(sets[0])
    unfinished = _unfinished(ledger, sets[1:])
    wanted = dict(ledger.failures)
    chosen: dict[str, list[tuple[Clip, Failure]]] = defaultdict(list)
    for clip in clips:
        failure = wanted.pop(clip.key, None)
        if failure is None:
            continue
        begun = unfinished.get(failure.shard)
        if begun is not None:
            candidate = clip if clip.key in begun else None
        else:
            candidate = again.candidates(clip, failure)
        if candidate is not None:
            chosen[failure.shard].append((candidate, failure))
    if wanted:
        raise UserError(
            f"{sets[0]} has {len(wanted)} failed clips that are not in this list, the first is "
            f"{next(iter(wanted))}; retry takes the same source as the ingest that made the set"
        )
    return [_supplement(source, shard, ledger, chosen[shard]) for shard in sorted(chosen)]


def _unfinished(ledger: Ledger, sets: Sequence[Path]) -> dict[str, set[str]]:
    """Return the clips, by shard, of supplements that a killed run committed to one set only."""
    found: dict[str, set[str]] = {}
    for folder in sets:
        for path in sidecar_paths(folder):
            shard, number = base_and_number(path.stem)
            if number > ledger.supplements.get(shard, 0):
                found[shard] = set(read_columns(path, ["key"])["key"].to_pylist())
    return found


def _supplement(
    source: str, shard: str, ledger: Ledger, chosen: list[tuple[Clip, Failure]]
) -> PlannedShard:
    number = ledger.supplements.get(shard, 0) + 1
    clips = tuple(clip for clip, _ in chosen)
    return PlannedShard(
        name=shard_name(int(shard.rpartition("-")[2]), number),
        clips=clips,
        digest=plan_digest(f"{source} again", clips, number),
        attempts=tuple(failure.attempts for _, failure in chosen),
    )

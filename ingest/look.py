"""Commands that look at what was made of a source: `status`, `diff`."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from audio_barlow_twins.shards.base.cli import Positional, say
from audio_barlow_twins.shards.base.place import place

from .errors import retry_after
from .stage.ledger import differences, read_ledger, summary
from .stage.runlog import read_plan


@dataclass(frozen=True, kw_only=True)
class Status:
    """Show what became of the planned clips: totals by class, the latest reasons, what is due."""

    out: Positional[str]
    """What was given to --out."""
    examples: int = 3
    """Latest failures to show of each class."""

    def run(self) -> None:
        out = place(self.out)
        plan = read_plan(out)
        folder = next((out / s for s in ("wave", "logmel") if (out / s).exists()), out)
        ledger = read_ledger(folder)
        shards, clips = plan.get("shards", ledger.n_shards), plan.get("clips", ledger.n_planned)
        supplements = sum(ledger.supplements.values())
        say(f"shards   {ledger.n_shards} of {shards}, {supplements} supplements")
        say(f"clips    {ledger.n_planned} of {clips}: {summary(ledger.outcomes)}")
        failures = sorted(ledger.failures.values(), key=lambda each: each.tried_at, reverse=True)
        for failure, n in Counter(each.failure for each in failures).most_common():
            hope = (
                "may pass by itself" if retry_after(failure) is not None else "stays, unless --also"
            )
            say(f"{failure:<14} {n}, {hope}")
            for each in islice((e for e in failures if e.failure == failure), self.examples):
                tries = f"{each.attempts} tries" if each.attempts > 1 else "1 try"
                when = each.tried_at.strftime("%Y-%m-%d %H:%M")
                say(f"    {when} {each.key} ({each.source}, {tries}): {each.message}")
        due = sum(each.due(frozenset(), datetime.now(UTC)) for each in failures)
        waiting = sum(each.due(frozenset(), None) for each in failures) - due
        say(f"retry    {due} clips are due, {waiting} later: abt ingest retry SOURCE …")


@dataclass(frozen=True, kw_only=True)
class Diff:
    """Say which clips two shard sets do not share, and why."""

    first: Positional[str]
    """A shard set."""
    second: Positional[str]
    """Another shard set."""
    examples: int = 5
    """Clips to show of each reason; 0 shows all."""

    def run(self) -> None:
        found = list(differences(place(self.first), place(self.second)))
        reasons = Counter((each.missing_in, each.reason) for each in found)
        for (lacking, reason), n in reasons.most_common():
            say(f"{n} clips are missing in {lacking}: {reason}")
            of_it = [d for d in found if (d.missing_in, d.reason) == (lacking, reason)]
            for each in of_it[: self.examples or None]:
                say(f"    {each.key}{': ' if each.message else ''}{each.message}")
        say(f"{len(found) or 'no'} differences")

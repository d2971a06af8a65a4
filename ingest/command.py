"""The command line of the stage: a source, or a look at what a source has become."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, ClassVar

import tyro

from audio_barlow_twins.shards.base.cli import Command, say
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.place import is_remote, place
from audio_barlow_twins.shards.stored.shardset import open_shards

from .config import (
    AudiosetSource,
    DemoSource,
    FolderSource,
    Fsd50kSource,
    Output,
    ParquetSource,
    WebdatasetSource,
)
from .errors import EnvironmentFault
from .report.report import write_report
from .sources.clip import Clip
from .sources.demo.corpus import TASK, demo_folds
from .sources.demo.task import write_task
from .sources.fill import compose
from .stage.ledger import RETRY_AFTER, count_by_reason, differences, read_ledger
from .stage.plan import Plan, PlannedShard
from .stage.retry import Again, plan_supplements
from .stage.runlog import read_plan
from .stage.stage import Job, ingest
from .video.fetcher import require_runtime

SOURCES = {
    "audioset": AudiosetSource,
    "folder": FolderSource,
    "webdataset": WebdatasetSource,
    "parquet": ParquetSource,
    "fsd50k": Fsd50kSource,
}
Source = (
    AudiosetSource | FolderSource | WebdatasetSource | ParquetSource | Fsd50kSource | DemoSource
)


@dataclass(frozen=True, kw_only=True)
class _Command(Output):
    """A source and where it goes."""

    name: ClassVar[str]

    def clips(self) -> Sequence[Clip]:
        """List the clips of the source, as its class says."""
        raise NotImplementedError

    def run(self) -> None:
        """Make the shards that are missing."""
        source, job, clips = self.prepare()
        self.make(job, Plan(source, clips, self.shard_clips))

    def prepare(self) -> tuple[str, Job, Sequence[Clip]]:
        """Return name, job and clips of the source with all that fills its gaps."""
        others = [_parse_source(text) for text in self.fill_from]
        sources = [self, *others]
        clips = compose([each.clips() for each in sources]) if others else self.clips()
        pages = [each.page for each in sources if isinstance(each, AudiosetSource)]
        if pages:
            try:
                require_runtime()
            except EnvironmentFault as error:
                raise UserError(str(error)) from error
        remote = any("://" in url for each in sources for url in getattr(each, "urls", ()))
        return self.name, self.job(pages[0] if pages else None, remote), clips

    def make(self, job: Job, plan: Sequence[PlannedShard]) -> None:
        """Run the stage and say what came of it."""
        outcomes = ingest(job, plan, self.slots)
        if failed := outcomes.total() - outcomes["ok"]:
            say(f"{failed} clips failed; `abt ingest status {self.out}` says why")
        logmel = open_shards(job.out / "logmel")
        statistics = logmel.statistics
        say(
            f"{self.out}/logmel: {len(logmel)} clips, {logmel.hours:.2f} h, log-mel mean "
            f"{statistics.mean:.4f}, std {statistics.std:.4f}, fingerprint {logmel.fingerprint}"
        )
        if outcomes or not (job.out / "ingest.html").exists():
            write_report(job.out)
        say(f"look    {self.out}/ingest.html")
        say(f"next    make train SHARDS={self.out}/logmel")


@dataclass(frozen=True, kw_only=True)
class Audioset(AudiosetSource, _Command):
    __doc__ = AudiosetSource.__doc__
    name = "audioset"


@dataclass(frozen=True, kw_only=True)
class Folder(FolderSource, _Command):
    __doc__ = FolderSource.__doc__
    name = "folder"


@dataclass(frozen=True, kw_only=True)
class Webdataset(WebdatasetSource, _Command):
    __doc__ = WebdatasetSource.__doc__
    name = "webdataset"


@dataclass(frozen=True, kw_only=True)
class Parquet(ParquetSource, _Command):
    __doc__ = ParquetSource.__doc__
    name = "parquet"


@dataclass(frozen=True, kw_only=True)
class Fsd50k(Fsd50kSource, _Command):
    __doc__ = Fsd50kSource.__doc__
    name = "fsd50k"


@dataclass(frozen=True, kw_only=True)
class Demo(DemoSource, _Command):
    __doc__ = DemoSource.__doc__
    name = "demo"

    out: str = "data/demo"
    """Folder for the results: `OUT/wave`, `OUT/logmel`, and the labelled task in `OUT/tasks`."""
    shard_clips: int = 32
    """Clips a shard."""

    def run(self) -> None:
        """Ingest it and write its labelled task."""
        if not self.wave:
            raise UserError("the demo's labelled task is cut from its waveforms: leave --wave on")
        super().run()
        if not is_remote(out := place(self.out)):  # evaluation reads its tasks from a disk
            write_task(out / "wave", out / "tasks" / TASK, demo_folds())


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Try failed clips again, if their class says that it can help: retry SOURCE … --out OUT.

    Takes the same source as the ingest that made the sets. What comes through goes into
    supplement shards (shard-000017-r1); nothing is renumbered or written anew.
    """

    source: tyro.conf.OmitSubcommandPrefixes[
        Annotated[Audioset, tyro.conf.subcommand("audioset")]
        | Annotated[Folder, tyro.conf.subcommand("folder")]
        | Annotated[Webdataset, tyro.conf.subcommand("webdataset")]
        | Annotated[Parquet, tyro.conf.subcommand("parquet")]
        | Annotated[Fsd50k, tyro.conf.subcommand("fsd50k")]
    ]
    """What the sets were made from."""
    now: bool = False
    """Do not wait until a class is due again (network 1 h, refused 24 h, live 3 days)."""
    also: tuple[str, ...] = ()
    """Further classes to try, such as geo behind another proxy or age_restricted with cookies."""

    def run(self) -> None:
        """Make the supplements."""
        name, job, clips = self.source.prepare()
        at = None if self.now else datetime.now(UTC)
        again = Again(classes=frozenset(self.also), at=at)
        plan = plan_supplements(name, clips, list(job.sets()), again)
        if not plan:
            ledger = read_ledger(next(iter(job.sets())))
            say(f"nothing is due: {_summary(ledger.outcomes)}; see --now and --also")
            return
        self.source.make(job, plan)


@dataclass(frozen=True, kw_only=True)
class Status:
    """Show what became of the planned clips: totals by class, the latest reasons, what is due."""

    out: Annotated[str, tyro.conf.Positional]
    """What was given to --out."""
    examples: int = 3
    """Latest failures to show of each class."""

    def run(self) -> None:
        """Print it."""
        out = place(self.out)
        plan = read_plan(out)
        folder = next((out / s for s in ("wave", "logmel") if (out / s).exists()), out)
        ledger = read_ledger(folder)
        shards, clips = plan.get("shards", ledger.n_shards), plan.get("clips", ledger.n_planned)
        supplements = sum(ledger.supplements.values())
        say(f"shards   {ledger.n_shards} of {shards}, {supplements} supplements")
        say(f"clips    {ledger.n_planned} of {clips}: {_summary(ledger.outcomes)}")
        failures = sorted(ledger.failures.values(), key=lambda each: each.tried_at, reverse=True)
        for failure, n in Counter(each.failure for each in failures).most_common():
            hope = "may pass by itself" if failure in RETRY_AFTER else "stays, unless --also"
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

    first: Annotated[str, tyro.conf.Positional]
    """A shard set."""
    second: Annotated[str, tyro.conf.Positional]
    """Another one."""
    examples: int = 5
    """Clips to show of each reason; 0 shows all."""

    def run(self) -> None:
        """Print the reasons, most frequent first, with examples."""
        found = list(differences(place(self.first), place(self.second)))
        for (lacking, reason), n in count_by_reason(found).most_common():
            say(f"{n} clips are missing in {lacking}: {reason}")
            of_it = [d for d in found if (d.missing_in, d.reason) == (lacking, reason)]
            for each in of_it[: self.examples or None]:
                say(f"    {each.key}{': ' if each.message else ''}{each.message}")
        say(f"{len(found) or 'no'} differences")


def _summary(outcomes: Counter[str]) -> str:
    return ", ".join(f"{n} {outcome}" for outcome, n in outcomes.most_common())


def _parse_source(text: str) -> Source:
    """Read a source of --fill-from as it would be typed on a command line."""
    words = shlex.split(text)
    if not words or words[0] not in SOURCES:
        raise UserError(f"--fill-from {text!r} does not begin with a source: {', '.join(SOURCES)}")
    return tyro.cli(SOURCES[words[0]], args=words[1:], prog=f"--fill-from {words[0]}")


COMMANDS = {
    "audioset": Command("AudioSet from YouTube by its official lists.", lambda: Audioset),
    "folder": Command("A folder of audio files, one clip a file.", lambda: Folder),
    "webdataset": Command("WebDataset tars of audio files.", lambda: Webdataset),
    "parquet": Command("Parquet tables of audio, as Hugging Face stores them.", lambda: Parquet),
    "fsd50k": Command("A split of FSD50K.", lambda: Fsd50k),
    "demo": Command("The demo corpus: six minutes of free sounds.", lambda: Demo),
    "retry": Command("Try failed clips again: retry SOURCE … --out OUT.", lambda: Retry),
    "status": Command("What became of the planned clips, and what is due.", lambda: Status),
    "diff": Command("Which clips two shard sets do not share, and why.", lambda: Diff),
}

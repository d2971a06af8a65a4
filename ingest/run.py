"""What all commands that write shard sets share: the options of the output, and the run."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from audio_barlow_twins.shards.base.cli import OmitArgPrefixes, parse, say
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import make_folder
from audio_barlow_twins.shards.base.place import place
from audio_barlow_twins.shards.decode.cut import DecodeLimits
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.shardset import finished_shards, open_shards

from .errors import EnvironmentFault
from .fill import compose
from .report.live import live_report
from .report.report import Page
from .sources.clip import Clip
from .sources.debian.source import Debian
from .sources.demo.corpus import Demo
from .sources.folder import Folder
from .sources.fsd50k import Fsd50k
from .sources.lists.audioset import Audioset
from .sources.lists.videos import VideoList
from .sources.source import LONGEST_S, Source
from .sources.tables import Parquet
from .sources.tars import Webdataset
from .stage.duplicates import drop_duplicates
from .stage.durations import durations
from .stage.ledger import read_ledger, summary
from .stage.pieces import in_pieces
from .stage.plan import Plan, PlannedShard
from .stage.retry import Again, plan_supplements
from .stage.stage import Job, ingest
from .video.fetcher import require_runtime
from .video.identity import read_identities
from .video.options import Videos

SOURCES: dict[str, type[Source]] = {
    kind.name: kind
    for kind in (Audioset, VideoList, Folder, Webdataset, Parquet, Fsd50k, Debian, Demo)
}


@dataclass(frozen=True, kw_only=True)
class Output:
    """Options that every source shares."""

    out: str
    """Folder or URL (s3://…) for the results: `OUT/wave` and `OUT/logmel`, a shard set each."""
    shard_clips: int = 1024
    """Clips a shard; 1024 log-mel clips of 10 s are 131 MB."""
    wave: bool = True
    """Keep the 16 kHz waveforms too (0.32 MB per 10 s), beside the log-mel."""
    fill_from: tuple[str, ...] = ()
    """Further sources for clips that this one lacks, each as it would be typed, in quotes:
    "folder /data/audioset --names audioset"."""
    max_s: float = 1200.0
    """Longest clip, s; a longer one, such as a whole recording with --no-pieces, is bad_audio."""
    slots: int | None = None
    """CPUs to use on this machine; default: all. A cluster (RAY_ADDRESS) has its own number."""
    at_once: int | None = None
    """Clips a slot fetches at the same time; default: 8 videos, 4 parts of URLs, 1 local file."""
    front_end: FrontEnd = field(default_factory=FrontEnd)
    """The log-mel to make; sets of different front-ends do not mix."""
    videos: OmitArgPrefixes[Videos] = field(default_factory=Videos)
    """How videos are fetched."""

    def job(self, page: str | None, remote: bool) -> Job:
        """Return what all shards of the run share; `page` is None without videos, see `Source`."""
        out = place(self.out)
        videos = self.videos
        return Job(
            out=out if "://" in self.out else out.absolute(),
            front_end=self.front_end,
            limits=DecodeLimits(min_samples=self.front_end.least_samples, max_s=self.max_s),
            keep_wave=self.wave,
            at_once=self.at_once or (8 if page else 4 if remote else 1),
            videos=videos.at(page) if page else None,
            identities=read_identities(videos.proxy, videos.cookies, videos.one_address),
        )


@dataclass(frozen=True, kw_only=True)
class Ingest(Output, Source):
    """Make shard sets of a source, which a subclass adds."""

    def run(self) -> None:
        job, clips = self.prepare()
        self.make(job, Plan(self.name, clips, self.shard_clips))
        self.finish(job.out)

    def prepare(self) -> tuple[Job, Sequence[Clip]]:
        """Return the job, and the clips of the source with those that fill its gaps."""
        others = [_parse_source(text) for text in self.fill_from]
        sources: list[Source] = [self, *others]
        pages = [each.videos_at for each in sources if each.videos_at]
        if pages:
            try:
                require_runtime()
            except EnvironmentFault as error:
                raise UserError(str(error)) from error
        remote = any(each.is_remote for each in sources)
        job = self.job(pages[0] if pages else None, remote)
        listed = [_listed(each, job) for each in sources]
        return job, compose(listed) if others else listed[0]

    def make(self, job: Job, plan: Sequence[PlannedShard]) -> None:
        """Run the stage and print the result."""
        make_folder(job.out)
        with live_report(job.out):
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
            page = Page.of(job.out)
            page.write()
            say(f"sound   {page.sound()}")
        say(f"look    {self.out}/ingest.html")
        say(f"next    make train SHARDS={self.out}/logmel")


@dataclass(frozen=True, kw_only=True)
class Retry(Ingest):
    """Try failed clips again, if their class says that it can help: retry SOURCE … --out OUT.

    Takes the same source as the ingest that made the sets. Clips that succeed go into supplement
    shards (shard-000017-r1); nothing is renumbered or rewritten.
    """

    now: bool = False
    """Do not wait until a class is due again (network and decoder 1 h, refused 24 h, live 3
    days)."""
    also: tuple[str, ...] = ()
    """Further classes to try, such as geo behind another proxy or age_restricted with cookies."""

    def run(self) -> None:
        job, clips = self.prepare()
        at = None if self.now else datetime.now(UTC)
        again = Again(classes=frozenset(self.also), at=at)
        plan = plan_supplements(self.name, clips, list(job.sets()), again)
        if not plan:
            ledger = read_ledger(next(iter(job.sets())))
            say(f"nothing is due: {summary(ledger.outcomes)}; see --now and --also")
            return
        self.make(job, plan)


def command_of(kind: type[Ingest], name: str) -> type[Ingest]:
    """Return the command line of a source: its fields, and those of `kind`."""
    source = SOURCES[name]
    about = {"__doc__": (kind if kind is Retry else source).__doc__, "__module__": __name__}
    return dataclass(frozen=True, kw_only=True)(type(source.__name__, (source, kind), about))


def _listed(source: Source, job: Job) -> Sequence[Clip]:
    """List the clips of a source, long recordings in pieces."""
    clips, pieces = source.clips(), source.cut_into()
    planned = any(map(finished_shards, job.sets()))
    if source.drops_duplicates or pieces:
        make_folder(job.out)
    if source.drops_duplicates:
        clips = drop_duplicates(clips, job.out, job.limits, planned)
        if dropped := sum(bool(clip.duplicate_of) for clip in clips):
            say(f"{dropped:,} recordings sound like earlier ones and are dropped")
    if pieces is None:
        return clips
    lengths = durations(clips, job.out, job.limits, planned)
    if missing := sum(each is None for each in lengths):
        say(f"{missing} recordings cannot be measured and stay whole")
    known = [(clip, each.seconds) for clip, each in zip(clips, lengths, strict=True) if each]
    if late := [
        (clip, event) for clip, each in known for event in clip.events if event.start_s > each
    ]:
        clip, event = late[0]
        say(
            f"{len(late)} events begin after the end of their recordings, the first is "
            f"{event.label} at {event.start_s:g} s of {clip.origin}"
        )
    long = [seconds for _, seconds in known if seconds > LONGEST_S]
    if long and pieces.piece_s > job.limits.max_s:
        raise UserError(
            f"--piece-s {pieces.piece_s:g} is longer than --max-s {job.limits.max_s:g}, the "
            "longest clip"
        )
    cut = in_pieces(clips, lengths, pieces, job.limits.min_samples)
    if long:
        made = [(clip.start_s or 0, clip.end_s) for clip in cut if clip.is_piece]
        say(
            f"{len(long):,} recordings longer than {LONGEST_S:g} s became {len(made):,} pieces"
            + _unequal(sum((end_s or start_s) - start_s for start_s, end_s in made), sum(long))
        )
    return cut


def _unequal(made_s: float, long_s: float) -> str:
    """Say how long pieces are that overlap or leave gaps, '' if they do neither."""
    if abs(made_s - long_s) < 0.01 * long_s:
        return ""
    return f", because of --hop-s {made_s / 3600:,.2f} h of {long_s / 3600:,.2f} h recorded"


def _parse_source(text: str) -> Source:
    """Parse a source of --fill-from, written as on a command line."""
    words = shlex.split(text)
    if not words or words[0] not in SOURCES:
        raise UserError(f"--fill-from {text!r} does not begin with a source: {', '.join(SOURCES)}")
    return parse(SOURCES[words[0]], f"--fill-from {words[0]}", words[1:])

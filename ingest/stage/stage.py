"""The ingest stage: plan, skip finished shards, fan the rest out over Ray, one task a shard."""

import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from audio_barlow_twins.shards.base.files import remove_scratch
from audio_barlow_twins.shards.base.progress import report_progress
from audio_barlow_twins.shards.cluster.fan_out import Shared, cluster, fan_out, host, node_address
from audio_barlow_twins.shards.decode.cut import DecodeLimits
from audio_barlow_twins.shards.decode.track import SAMPLE_RATE
from audio_barlow_twins.shards.stored.form import Form, logmel_form, wave_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.sidecar import Row, now
from audio_barlow_twins.shards.stored.writer import (
    ShardReport,
    committed_plans,
    is_committed,
    require_plan,
    shard_name,
    writing_shard,
)

from ..errors import Elsewhere
from ..video.download import Downloader
from ..video.governor import Governor
from ..video.identity import Identities
from ..video.options import Videos
from .plan import Plan, PlannedShard
from .runlog import RunLog, write_plan
from .spool import Spool, clear_spools
from .take import Taker, in_order

log = logging.getLogger(__name__)

GIVE_BACK_S = 20.0
"""Pause before a machine without an identity that may ask gives a shard back."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all shards of a run share."""

    out: Path
    """Holds the two shard sets, `wave` and `logmel`."""
    front_end: FrontEnd
    limits: DecodeLimits
    keep_wave: bool = True
    at_once: int = 1
    videos: Videos | None = None
    """How videos are fetched, if the source has any."""
    identities: Identities = field(default_factory=Identities)
    governor: Shared | None = None
    """Handle of the governor, set while the job runs."""

    def sets(self) -> dict[Path, Form]:
        """Return the folders to write, with their forms; the first is committed last."""
        sets = {self.out / "wave": wave_form()} if self.keep_wave else {}
        return sets | {self.out / "logmel": logmel_form(self.front_end)}

    def missing(self, shard: PlannedShard) -> dict[Path, Form]:
        """Return the sets that lack this shard."""
        return {
            folder: form
            for folder, form in self.sets().items()
            if not is_committed(folder, shard.name, form, shard.digest)
        }


@dataclass(frozen=True)
class IngestReport(ShardReport):
    """What became of one shard; a line of ingest.jsonl."""

    shard: str
    audio_s: float
    seconds: float
    node: str
    identities: dict[str, int]
    given_back: bool = False
    """No identity of this machine may ask any more; another machine takes the shard."""

    def record(self) -> dict:
        speed = self.clips / self.seconds if self.seconds else 0.0
        return {
            "at": now().isoformat(),
            "shard": self.shard,
            "clips": self.clips,
            "outcomes": self.outcomes,
            "audio_s": round(self.audio_s, 3),
            "seconds": round(self.seconds, 3),
            "clips_per_s": round(speed, 3),
            "node": self.node,
            "identities": self.identities,
        }


def ingest(job: Job, plan: Sequence[PlannedShard], slots: int | None) -> Counter[str]:
    """Make the shards that are missing; return how many clips of this run had which outcome."""
    todo = _missing(job, plan)
    log.info("%d shards planned, %d to do", len(plan), len(todo))
    outcomes = Counter[str]()
    if todo:
        if isinstance(plan, Plan):
            about = {"source": plan.source, "clips": len(plan.clips), "shards": len(plan)}
            write_plan(job.out, about)
        n_clips = sum(n for _, n in todo)
        with cluster(slots), RunLog(job.out) as run_log:
            governor = None
            if job.videos:
                governor = host("governor", Governor, job.videos.pace)
                governor.call(Governor.set_pace, job.videos.pace)
            common = replace(job, governor=governor)

            def again(report: IngestReport) -> Sequence[tuple[Job, PlannedShard]]:
                if not report.given_back:
                    return ()
                names = [name for name, _ in _outline(plan)]
                return [(common, plan[names.index(report.shard)])]

            for report in fan_out(
                ingest_shard,
                ((common, plan[n]) for n, _ in todo),
                total_clips=n_clips,
                title="ingest",
                describe=(lambda: governor.call(Governor.describe)) if governor else None,
                follow=again,
            ):
                if not report.given_back:
                    run_log.write(report.record())
                    outcomes.update(report.outcomes)
    for folder in job.sets():
        remove_scratch(folder)
    if job.videos:
        clear_spools(job.out / "spool", {name for name, _ in _outline(plan)})
    return outcomes


def _missing(job: Job, plan: Sequence[PlannedShard]) -> list[tuple[int, int]]:
    """Return number and clip count of the shards that a set lacks; UserError if plans differ."""
    committed = {folder: committed_plans(folder, form) for folder, form in job.sets().items()}
    todo = []
    for number, (name, n_clips) in enumerate(_outline(plan)):
        found = {folder: plans.get(name) for folder, plans in committed.items()}
        if any(found.values()):
            wanted = plan[number].digest
            for folder, digest in found.items():
                if digest is not None:
                    require_plan(folder, name, digest, wanted)
        if None in found.values():
            todo.append((number, n_clips))
    return todo


def _outline(plan: Sequence[PlannedShard]) -> Iterator[tuple[str, int]]:
    """Yield name and clip count of every shard, without making and hashing those of a plan."""
    if not isinstance(plan, Plan):
        yield from ((shard.name, len(shard.clips)) for shard in plan)
        return
    for number, begin in enumerate(range(0, len(plan.clips), plan.shard_clips)):
        yield shard_name(number), min(plan.shard_clips, len(plan.clips) - begin)


def ingest_shard(task: tuple[Job, PlannedShard]) -> IngestReport:
    """Get the clips of one shard and commit it to every set that lacks it."""
    import torch  # large; the driver needs none of it

    job, shard = task
    begin = time.monotonic()
    torch.set_num_threads(1)
    spool = Spool(job.out / "spool" / shard.name) if job.videos else None
    audio_s, outcomes, identities = 0.0, Counter[str](), Counter[str]()
    try:
        with _writing(job, shard) as add, _downloader(job) as downloader:
            taker = Taker(job.limits, spool, downloader)
            for row, samples in in_order(taker, shard, job.at_once):
                add(row, samples)
                outcomes[row.failure or row.status] += 1
                identities[row.identity] += 1
                audio_s += 0 if samples is None else len(samples) / SAMPLE_RATE
                report_progress(1)
    except Elsewhere:
        time.sleep(GIVE_BACK_S)  # otherwise the next shard would come back at once
        return IngestReport(0, {}, shard.name, 0.0, 0.0, node_address(), {}, given_back=True)
    if spool:
        spool.clear()
    identities.pop("", None)
    return IngestReport(
        clips=len(shard.clips),
        outcomes=dict(outcomes),
        shard=shard.name,
        audio_s=audio_s,
        seconds=time.monotonic() - begin,
        node=node_address(),
        identities=dict(identities),
    )


@contextmanager
def _writing(job: Job, shard: PlannedShard) -> Iterator[Callable[[Row, np.ndarray | None], None]]:
    """Yield a function that adds a clip to every set; the end of the block commits them."""
    from audio_barlow_twins.shards.stored.logmel import LogMel, stored_logmel

    sets = job.missing(shard) or job.sets()  # all there: a worker was lost after its commit
    log_mel = LogMel(job.front_end)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(writing_shard(folder, shard.name, form, shard.digest))
            for folder, form in sets.items()
        ]

        def add(row: Row, samples: np.ndarray | None) -> None:
            for writer in writers:
                if samples is None:
                    writer.fail(row)
                elif writer.form.kind == "wave":
                    writer.add(row, samples)
                else:
                    writer.add(row, stored_logmel(log_mel, samples))

        yield add


@contextmanager
def _downloader(job: Job) -> Iterator[Downloader | None]:
    """Yield the downloader of a task, None without videos; its processes end with the block."""
    if job.videos is None or job.governor is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="identities-") as folder:
        identities = job.identities.here(node_address(), Path(folder))
        downloader = Downloader(job.videos, identities, job.governor)
        try:
            yield downloader
        finally:
            downloader.close()

"""The stage itself: plan, skip what is finished, fan the rest out over Ray, one task a shard."""

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ingest.clip import Clip
from ingest.decode import SAMPLE_RATE, DecodeLimits, decode, decoder_version
from ingest.errors import IngestError
from ingest.fetch import audio_file
from ingest.plan import PlannedShard, plan_shards
from shards.cluster import fan_out
from shards.files import remove_scratch
from shards.form import Form, logmel_form, wave_form
from shards.logmel import FrontEnd, LogMel, stored_logmel
from shards.sidecar import Row
from shards.writer import ShardReport, is_committed, writing_shard

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every shard of a run has in common."""

    source: str
    """Name of the source."""
    out: Path
    """Holds the two shard sets, `wave` and `logmel`."""
    front_end: FrontEnd
    limits: DecodeLimits
    keep_wave: bool = True
    """Write the wave set too."""

    def sets(self) -> dict[Path, Form]:
        """Return the folders to write and what they hold."""
        sets = {self.out / "wave": wave_form()} if self.keep_wave else {}
        return sets | {self.out / "logmel": logmel_form(self.front_end)}

    def missing(self, shard: PlannedShard) -> dict[Path, Form]:
        """Return the sets that lack this shard."""
        return {
            folder: form
            for folder, form in self.sets().items()
            if not is_committed(folder, shard.name, form, shard.digest)
        }


def ingest(job: Job, clips: Sequence[Clip], shard_clips: int, slots: int | None) -> Counter[str]:
    """Make the shards that are missing; return how many clips of this run had which outcome."""
    plan = plan_shards(job.source, clips, shard_clips)
    todo = [shard for shard in plan if job.missing(shard)]
    log.info("%d clips in %d shards, %d shards to do", len(clips), len(plan), len(todo))
    outcomes = Counter[str]()
    if todo:
        tasks = ((job, shard) for shard in todo)
        n_clips = sum(len(shard.clips) for shard in todo)
        for report in fan_out(ingest_shard, tasks, total_clips=n_clips, slots=slots):
            outcomes.update(report.outcomes)
    for folder in job.sets():
        remove_scratch(folder)
    return outcomes


def ingest_shard(task: tuple[Job, PlannedShard]) -> ShardReport:
    """Decode the clips of one shard and commit it to every set that lacks it."""
    job, shard = task
    sets = job.missing(shard) or job.sets()  # none is missing: a worker was lost after its commit
    torch.set_num_threads(1)
    log_mel = LogMel(job.front_end)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(writing_shard(folder, shard.name, form, shard.digest))
            for folder, form in sets.items()
        ]
        for clip in shard.clips:
            row, samples = _take(clip, job)
            for writer in writers:
                if samples is None:
                    writer.fail(row)
                elif writer.form.kind == "wave":
                    writer.add(row, samples)
                else:
                    writer.add(row, stored_logmel(log_mel, samples))
        return writers[-1].report()


def _take(clip: Clip, job: Job) -> tuple[Row, np.ndarray | None]:
    """Decode one clip; an expected failure becomes its row."""
    row = Row(
        key=clip.key,
        status="ok",
        source=job.source,
        source_version=decoder_version(),
        origin=clip.origin,
        labels=list(clip.labels),
    )
    try:
        with audio_file(clip) as path:
            samples = decode(path, job.limits)
    except IngestError as error:
        return replace(row, status="failed", failure=error.slug, message=str(error)), None
    return replace(row, start_s=0.0, end_s=len(samples) / SAMPLE_RATE), samples

"""The parts of an evaluation, each a Ray task: embed the clips of a task, or train its probes."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.progress import report_progress

from ..embed.cache import EmbeddingCache
from ..embed.tasks import embed_task
from ..probe.evaluate import n_trainings
from ..probe.recipe import ProbeRecipe
from ..systems.system import LoadedSystem, SystemSpec
from ..tasks.resampled import task_at
from ..tasks.task import Task
from .scoring import Scores, count_trainings, score


@dataclass(frozen=True, kw_only=True)
class Planned:
    system: SystemSpec
    fingerprint: str
    """Of the system."""
    folder: Path
    """Of the task."""
    task: str
    """Digest of the task."""
    n_clips: int
    n_probes: int
    """Probes to train with each seed."""
    out: Path
    cache: Path
    """Folder for resampled clips and embeddings."""
    device: str
    threads: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """A task to embed, or to probe with one seed."""

    planned: Planned
    protocol: ProbeRecipe | None = None
    """With a single seed; None to embed the clips, which the probes then find in the cache."""

    @property
    def name(self) -> str:
        return f"{self.planned.system.name} on {self.planned.folder.name}"

    @property
    def path(self) -> Path:
        if self.protocol is None:
            raise ValueError(f"{self.name}: embeddings have no scores")
        (seed,) = self.protocol.seeds
        folder = scores_folder(self.planned.out, self.planned.system) / self.planned.folder.name
        return folder / f"{self.protocol.name}-{seed}.json"

    @property
    def inputs(self) -> Mapping[str, Any]:
        """What decides the scores, as plain values."""
        if self.protocol is None:
            raise ValueError(f"{self.name}: embeddings have no scores")
        return inputs_of(self.planned.fingerprint, self.planned.task, self.protocol)

    @property
    def done(self) -> bool:
        """Whether the scores are there, of just this system, task and protocol."""
        scores = Scores.read(self.path)
        return scores is not None and scores.inputs == self.inputs

    @property
    def progress(self) -> str:
        """Return how many probes have been trained, as text; '' for none."""
        trained = count_trainings(self.path)
        return f"{self.name} {trained}/{self.planned.n_probes}" if trained else ""


@dataclass(frozen=True, kw_only=True)
class JobReport:
    job: Job
    clips: int
    """Clips of the task."""
    failure: str = ""
    """The message of a UserError."""

    @property
    def outcomes(self) -> dict[str, int]:
        return {"failed" if self.failure else "embedded" if not self.job.protocol else "probed": 1}


def run_job(job: Job) -> JobReport:
    """Run a job, or what an interrupted call has left of it."""
    planned, failure = job.planned, ""
    torch.set_num_threads(planned.threads)
    try:
        system = _loaded(planned.system, planned.fingerprint, planned.device)
        task = task_at(planned.folder, system.sample_rate, planned.cache)
        cache = EmbeddingCache(planned.cache, planned.fingerprint)
        embeddings = partial(embed_task, task, system, cache=cache)
        if job.protocol is None:
            embeddings(progress=report_progress)
        else:
            name = planned.system.name
            score(task, embeddings, job.protocol, job.path, name, job.inputs)
    except UserError as error:
        failure = str(error)
    return JobReport(job=job, clips=planned.n_clips, failure=failure)


@lru_cache(maxsize=1)
def _loaded(system: SystemSpec, fingerprint: str, device: str) -> LoadedSystem:
    """Load a system, cached for the next job of the same worker."""
    return system.load(None if device == "auto" else device)


def scores_folder(out: Path, system: SystemSpec) -> Path:
    """Return the folder of a system's scores, named after its row in the report."""
    return out / "scores" / re.sub(r"[^\w.]+", "-", system.name).strip("-")


def inputs_of(fingerprint: str, task: str, protocol: ProbeRecipe) -> dict[str, Any]:
    """Name what decides scores, as plain values; see `Planned`."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(protocol)))
    return {"system": fingerprint, "task": task, "protocol": plain}


def digest_of(task: Task) -> str:
    """Digest a task: metadata, labels, and names and sizes of the clips."""
    digest = hashlib.blake2b(
        json.dumps(asdict(task.metadata), sort_keys=True, default=list).encode(), digest_size=8
    )
    for split, clips in task.splits.items():
        for clip in clips:
            labels = [*clip.labels, *(asdict(event) for event in clip.events)]
            line = [split, clip.path.name, clip.path.stat().st_size, labels]
            digest.update(json.dumps(line).encode())
    return digest.hexdigest()


def probes_of(task: Task, protocol: ProbeRecipe) -> int:
    return n_trainings(task.metadata, protocol) // len(protocol.seeds)

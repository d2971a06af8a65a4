"""One run of an ablation: train an encoder, then score it on tasks, unless that is done."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from audio_barlow_twins.eval.embed.tasks import embed_task
from audio_barlow_twins.eval.hear import load_model
from audio_barlow_twins.eval.probe.recipe import RECIPES
from audio_barlow_twins.eval.run.scoring import score
from audio_barlow_twins.eval.systems.system import LoadedSystem
from audio_barlow_twins.eval.tasks.task import read_task
from audio_barlow_twins.model.checkpoint import save_checkpoint
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.lock import alone

from ..config import TrainConfig
from ..run.session import train
from ..step.setup import open_set
from ..step.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Job:
    """A cell of an ablation with one seed."""

    cell: str
    config: TrainConfig
    """The run; its folder also gets the scores."""
    trained: bool
    """False: the encoder keeps its random weights."""
    tasks: tuple[Path, ...]
    """Task folders."""
    protocol: str
    threads: int

    @property
    def name(self) -> str:
        return f"{self.cell}/seed-{self.config.seed}"

    def scores_file(self, task: Path) -> Path:
        """Return the file of the scores on a task, which exists only when they are complete."""
        return self.config.run / "hear" / f"{task.name}.json"

    @property
    def missing(self) -> tuple[Path, ...]:
        """Tasks that are still to be scored."""
        return tuple(task for task in self.tasks if not self.scores_file(task).exists())


@dataclass(frozen=True, kw_only=True)
class JobReport:
    """The outcome of a job."""

    name: str
    clips: int
    """Clips to train on, over all epochs."""
    failure: str = ""
    """Why there are no scores: an error that the user can fix, or a diverged run."""

    @property
    def outcomes(self) -> dict[str, int]:
        """Counts for the progress bar."""
        return {"failed" if self.failure else "ok": 1}


def run_job(task: tuple[Job, int]) -> JobReport:
    """Do the missing parts of a job that trains on a number of clips."""
    job, clips = task
    torch.set_num_threads(job.threads)
    failure = ""
    try:
        # The workers of a killed driver may live for a few more seconds.
        with alone(job.config.run / ".lock"):
            if job.trained:
                train(job.config)
            else:
                draw_encoder(job.config)
            score_encoder(job)
    except UserError as error:
        failure = str(error)
    return JobReport(name=job.name, clips=clips, failure=failure)


def draw_encoder(config: TrainConfig) -> None:
    """Write the encoder of a run as it is before training."""
    trainer = Trainer(config, open_set(config))
    trainer.reader.close()
    save_checkpoint(config.run / "encoder.pt", replace(trainer.checkpoint(), training=None))


def score_encoder(job: Job) -> None:
    """Score the encoder of a finished run on the tasks without scores."""
    device = None if job.config.device == "auto" else job.config.device
    encoder = LoadedSystem.of(job.name, load_model(job.config.run / "encoder.pt", device))
    for folder in job.missing:
        task, protocol = read_task(folder, encoder.sample_rate), RECIPES[job.protocol]
        embeddings = partial(embed_task, task, encoder)
        score(task, embeddings, protocol, job.scores_file(folder), job.name, {})

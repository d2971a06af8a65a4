"""One run of an ablation: train an encoder, then score it on tasks; what is there is kept."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from eval.benchmark import embed_task
from eval.evaluate import evaluate
from eval.hear import HearModel, load_model
from eval.protocol import PROTOCOLS
from eval.result import Training
from eval.task import read_task
from model.checkpoint import save_checkpoint
from shards.cli import UserError
from shards.files import replacing
from train.config import TrainConfig
from train.loop import Trainer
from train.session import train
from train.setting import open_set


@dataclass(frozen=True, kw_only=True)
class Job:
    """A cell of an ablation with one seed."""

    cell: str
    config: TrainConfig
    """The run; its folder also gets the scores."""
    trained: bool
    """Whether the encoder is trained, or left as it was drawn."""
    tasks: tuple[Path, ...]
    """Task folders."""
    protocol: str
    threads: int
    """To compute with on a CPU."""

    @property
    def name(self) -> str:
        """What the run is called in the report."""
        return f"{self.cell}/seed-{self.config.seed}"

    def scores_file(self, task: Path) -> Path:
        """Where the scores on a task go; its presence means that they are complete."""
        return self.config.run / "hear" / f"{task.name}.json"

    @property
    def missing(self) -> tuple[Path, ...]:
        """Tasks that are still to be scored."""
        return tuple(task for task in self.tasks if not self.scores_file(task).exists())


@dataclass(frozen=True, kw_only=True)
class JobReport:
    """What became of a job."""

    name: str
    clips: int
    """Clips that the encoder was to be trained on, over all epochs."""
    failure: str = ""
    """Why there are no scores: what the user can mend, or that the run has diverged."""

    @property
    def outcomes(self) -> dict[str, int]:
        """Count it for the progress bar."""
        return {"failed" if self.failure else "ok": 1}


def run_job(task: tuple[Job, int]) -> JobReport:
    """Do what is missing of a job; the number is of the clips that it trains on."""
    job, clips = task
    torch.set_num_threads(job.threads)
    failure = ""
    try:
        with alone_in(job.config.run):
            if job.trained:
                train(job.config)
            else:
                draw_encoder(job.config)
            score(job)
    except UserError as error:
        failure = str(error)
    return JobReport(name=job.name, clips=clips, failure=failure)


def draw_encoder(config: TrainConfig) -> None:
    """Write the encoder of a run as it is before the first step."""
    trainer = Trainer(config, open_set(config))
    trainer.reader.close()
    save_checkpoint(config.run / "encoder.pt", replace(trainer.checkpoint(), training=None))


def score(job: Job) -> None:
    """Score the encoder of a finished run on the tasks that are missing."""
    device = None if job.config.device == "auto" else job.config.device
    model = load_model(job.config.run / "encoder.pt", device)
    for folder in job.missing:
        score_task(folder, model, job)


def score_task(folder: Path, model: HearModel, job: Job) -> None:
    """Score an encoder on a task; each probe is written down as it is trained."""
    task = read_task(folder, model.sample_rate)
    target = job.scores_file(folder)
    known = target.with_suffix(".trainings.jsonl")
    known.parent.mkdir(exist_ok=True)
    finished = read_trainings(known)
    splits = embed_task(task, {job.name: model}, lambda n: None)[job.name]
    with known.open("a") as file:

        def note(training: Training) -> None:
            file.write(json.dumps(asdict(training)) + "\n")
            file.flush()

        result = evaluate(task.metadata, splits, PROTOCOLS[job.protocol], finished, note)
    content = {
        "task": result.task,
        "protocol": result.protocol,
        "score": result.score,
        "mean": result.mean,
        "std": result.std,
        "runs": [run.as_heareval(result.score_mode) for run in result.runs],
    }
    with replacing(target) as scratch:
        scratch.write_text(json.dumps(content, indent=1) + "\n")
    known.unlink()


def read_trainings(path: Path) -> list[Training]:
    """Read what an interrupted call has trained; a line that it left unfinished is cut off."""
    if not path.exists():
        return []
    whole = path.read_bytes()
    whole = whole[: whole.rfind(b"\n") + 1]
    with replacing(path) as scratch:
        scratch.write_bytes(whole)
    return [Training.from_json(json.loads(line)) for line in whole.splitlines()]


@contextmanager
def alone_in(run: Path) -> Iterator[None]:
    """Wait until no other process works in a run's folder.

    The workers of a driver that was killed may live for a few seconds more.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

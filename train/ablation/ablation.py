"""Ablations: runs on Ray that differ in one setting, scored on HEAR tasks and compared."""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from audio_barlow_twins.eval.run.scoring import Scores
from audio_barlow_twins.eval.tasks.task import find_tasks, read_task
from audio_barlow_twins.shards.base.cli import say
from audio_barlow_twins.shards.base.device import on_gpu
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import replacing
from audio_barlow_twins.shards.cluster.fan_out import cluster, fan_out
from audio_barlow_twins.shards.cluster.workers import count_gpus

from ..config import TrainConfig
from ..run.folder import FREE, find_change, plain_json
from ..step.setup import absolute, open_set
from .config import Ablation
from .grids import cells_of
from .report import Result, write_report
from .run_one import Job, run_job

TAIL_BYTES = 8192
"""How much to read of the end of metrics.jsonl for a run's progress: several lines."""

log = logging.getLogger(__name__)


def ablate(config: Ablation) -> None:
    """Do the missing runs and write the report; exit with code 1 if a run has failed."""
    jobs = plan_jobs(config)
    n_clips = len(open_set(config.base))
    keep_plan(config)
    todo = [
        (job, int(job.config.epochs * n_clips) if job.trained else 0) for job in jobs if job.missing
    ]
    log.info("%s: %d runs planned, %d to do", config.folder, len(jobs), len(todo))
    failures = run_all(config, todo) if todo else {}
    for job in jobs:
        if job.missing:
            unseen = f"its scores are not in {job.config.run}, which all nodes must see"
            failures.setdefault(job.name, unseen)
    say(write_report(config, collect(jobs), failures))
    if failures:
        sys.exit(1)


def run_all(config: Ablation, todo: Sequence[tuple[Job, int]]) -> dict[str, str]:
    """Run jobs, each with its number of clips, on Ray; return the reasons of failures by name."""
    with cluster(config.slots):
        reports = fan_out(
            run_job,
            todo,
            total_clips=sum(clips for _, clips in todo),
            num_cpus=config.cpus,
            num_gpus=1 if on_gpu(config.base.device, count_gpus()) else 0,
            describe=lambda: describe([job for job, _ in todo]),
        )
        return {report.name: report.failure for report in reports if report.failure}


def plan_jobs(config: Ablation) -> list[Job]:
    """List the runs of an ablation, cell by cell.

    Raises:
        UserError: a task cannot be used.
    """
    folders = [folder.absolute() for folder in find_tasks(config.tasks_dir, config.task)]
    for folder in folders:
        read_task(folder, config.base.front_end.sample_rate)
    return [
        Job(
            cell=cell.name,
            config=run_config(cell.config, config.folder / cell.name / f"seed-{seed}", seed),
            trained=cell.trained,
            tasks=tuple(folders),
            protocol=config.protocol,
            threads=config.cpus,
        )
        for cell in cells_of(config)
        for seed in config.seeds
    ]


def run_config(config: TrainConfig, run: Path, seed: int) -> TrainConfig:
    """Return the config of one run, for a process that may have another working directory."""
    cache = config.cache.folder
    return replace(
        config,
        run=run.absolute(),
        seed=seed,
        resume=True,
        preflight=False,
        shards=absolute(config.shards),
        statistics=config.statistics and absolute(config.statistics),
        cache=replace(config.cache, folder=cache and cache.absolute()),
        probe_tasks=tuple(folder.absolute() for folder in config.probe_tasks),
    )


def keep_plan(config: Ablation) -> None:
    """Store what all runs have in common, or compare it with what is stored.

    Raises:
        UserError: the folder holds an ablation with other settings.
    """
    common = {"grid": config.grid, "protocol": config.protocol} | asdict(config.base)
    plain = plain_json(common)
    path = config.folder / "ablation.json"
    if not path.exists():
        with replacing(path) as scratch:
            scratch.write_text(json.dumps(plain, indent=1) + "\n")
        return
    free = [name for name in FREE if name != "shards"]  # no fingerprint guards those of a grid
    if change := find_change(json.loads(path.read_text()), plain, free):
        raise UserError(
            f"{config.folder} was begun with {change}; keep its settings to continue it, or name "
            "another folder with --out"
        )


def describe(jobs: Sequence[Job]) -> str:
    """Describe the progress of the runs in flight."""
    parts = []
    for job in jobs:
        if job.missing and (epoch := last_epoch(job.config.run / "metrics.jsonl")):
            parts.append(f"{job.name} {100 * epoch / job.config.epochs:.0f} %")
    return ", ".join(parts)


def last_epoch(metrics: Path) -> float:
    """Return how many epochs a run has done; 0 without a line yet."""
    if not metrics.exists():
        return 0.0
    with metrics.open("rb") as file:
        file.seek(max(0, metrics.stat().st_size - TAIL_BYTES))
        lines = file.read().split(b"\n")[:-1]
    return json.loads(lines[-1])["epoch"] if lines else 0.0


def collect(jobs: Sequence[Job]) -> list[Result]:
    """Read the scores of all jobs that have some."""
    found = []
    for job in jobs:
        for task in job.tasks:
            if scores := Scores.read(job.scores_file(task)):
                found.append(
                    Result(
                        cell=job.cell,
                        seed=job.config.seed,
                        task=task.name,
                        score=scores.result.score,
                        value=scores.result.mean,
                    )
                )
    return found

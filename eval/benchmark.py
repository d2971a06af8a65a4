"""A checkpoint and its baselines on HEAR scene tasks: embed, probe, compare."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from eval.audio import AudioError, read_samples
from eval.baselines import compared_systems
from eval.config import HearConfig
from eval.hear import HearModel, checkpoint_facts, get_scene_embeddings, read_checkpoint
from eval.probe import GRID, Labelled, n_trainings, probe_task
from eval.report import TaskReport, score_table, write_scores
from eval.scores import SCORES, chance_level
from eval.task import Clip, Task, TaskError, find_tasks, read_task
from shards.cli import UserError, say

log = logging.getLogger(__name__)


def hear_command(config: HearConfig) -> None:
    """Run `python -m eval hear`: score, print the table, write the scores file."""
    checkpoint = read_checkpoint(config.checkpoint)
    systems = compared_systems(checkpoint, config.device)
    rate = systems["checkpoint"].sample_rate
    tasks = [read_task(folder, rate) for folder in find_tasks(config.tasks_dir, config.task)]
    for task in tasks:
        check_score(task)
    reports = []
    for task in tasks:
        reports.append(score_systems(task, systems))
        facts = checkpoint_facts(config.checkpoint, checkpoint)
        write_scores(config.scores_file, facts, reports)
        log.info("%s: scored, %d of %d tasks", task.name, len(reports), len(tasks))
    say(score_table(reports))
    log.info("scores written to %s", config.scores_file)


def check_score(task: Task) -> None:
    """Refuse a task before any work if its primary score is not implemented."""
    if task.evaluation[0] not in SCORES:
        known = ", ".join(SCORES)
        raise TaskError(f"{task.name}: primary score is {task.evaluation[0]!r}; known: {known}")


def score_systems(task: Task, systems: Mapping[str, HearModel]) -> TaskReport:
    """Embed a task's clips with every system, then probe each system."""
    name = task.evaluation[0]
    arrangements = task.arrangements()
    with tqdm(total=task.n_clips, desc=f"{task.name}: embed", unit="clip", disable=None) as bar:
        embedded = embed_task(task, systems, bar.update)
    trainings = len(systems) * n_trainings(GRID, arrangements)
    multilabel = task.prediction_type == "multilabel"
    with tqdm(total=trainings, desc=f"{task.name}: probe", unit="probe", disable=None) as bar:
        results = {
            system: probe_task(splits, arrangements, SCORES[name], multilabel, progress=bar.update)
            for system, splits in embedded.items()
        }
    tested = np.concatenate([task.targets(arrangement.test) for arrangement in arrangements])
    return TaskReport(
        task=task.name,
        score=name,
        n_clips=task.n_clips,
        n_folds=len(arrangements),
        chance=chance_level(name, tested),
        systems=results,
    )


def embed_task(
    task: Task, systems: Mapping[str, HearModel], progress: Callable[[int], object]
) -> dict[str, dict[str, Labelled]]:
    """Read every clip once and embed it with each system.

    Returns:
        For each system and split, embeddings on the system's device, with their targets.
    """
    embedded: dict[str, dict[str, Labelled]] = {system: {} for system in systems}
    first = next(iter(systems.values()))
    for split, clips in task.splits.items():
        parts: dict[str, list[Tensor]] = {system: [] for system in systems}
        waves = (read_clip(clip, first.sample_rate) for clip in clips)
        for audio in equal_lengths(waves, first.clips_per_pass):
            for system, model in systems.items():
                parts[system].append(get_scene_embeddings(audio, model))
            progress(len(audio))
        for system in systems:
            embeddings = torch.cat(parts[system])
            if not embeddings.isfinite().all():
                raise UserError(f"{system}: embeddings of {task.name} are not finite; retrain it")
            targets = torch.from_numpy(task.targets(split)).to(embeddings.device)
            embedded[system][split] = Labelled(embeddings, targets)
    return embedded


def read_clip(clip: Clip, sample_rate: int) -> np.ndarray:
    """Read a clip of a task, float32 [samples]; its rate must be what its folder says."""
    wave, rate = read_samples(clip.path)
    if rate != sample_rate:
        raise AudioError(f"{clip.path}: is at {rate} Hz; resample the task to {sample_rate} Hz")
    return wave.mean(axis=1, dtype=np.float32)


def equal_lengths(waves: Iterable[np.ndarray], most: Callable[[int], int]) -> Iterator[Tensor]:
    """Stack runs of equally long clips, so that none is padded to its neighbours' length.

    Args:
        waves: float32 [samples] each.
        most: how many clips of a given number of samples to stack at most.

    Yields:
        float32 [n, samples], in order.
    """
    run: list[np.ndarray] = []
    for wave in waves:
        if run and (len(wave) != len(run[0]) or len(run) >= most(len(wave))):
            yield torch.from_numpy(np.stack(run))
            run = []
        run.append(wave)
    if run:
        yield torch.from_numpy(np.stack(run))

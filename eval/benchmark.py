"""A checkpoint and its baselines on HEAR tasks: embed, probe, compare."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from eval.audio import AudioError, read_samples
from eval.baselines import compared_systems
from eval.config import HearConfig
from eval.embedded import Embedded, join
from eval.evaluate import evaluate, n_trainings
from eval.events import Timeline
from eval.hear import (
    HearModel,
    checkpoint_facts,
    get_scene_embeddings,
    get_timestamp_embeddings,
    read_checkpoint,
)
from eval.protocol import PROTOCOLS, Protocol
from eval.report import TaskReport, score_table, write_scores
from eval.scores import chance_level
from eval.task import Clip, Task, find_tasks, read_task
from shards.cli import UserError, say

log = logging.getLogger(__name__)


def hear_command(config: HearConfig) -> None:
    """Run `python -m eval hear`: score, print the table, write the scores file."""
    checkpoint = read_checkpoint(config.checkpoint)
    systems = compared_systems(checkpoint, config.device)
    rate = systems["checkpoint"].sample_rate
    tasks = [read_task(folder, rate) for folder in find_tasks(config.tasks_dir, config.task)]
    protocol = PROTOCOLS[config.protocol]
    reports = []
    for task in tasks:
        reports.append(score_systems(task, systems, protocol))
        facts = checkpoint_facts(config.checkpoint, checkpoint)
        write_scores(config.scores_file, facts, protocol, reports)
        log.info("%s: scored, %d of %d tasks", task.name, len(reports), len(tasks))
    say(score_table(reports))
    log.info("scores written to %s", config.scores_file)


def score_systems(task: Task, systems: Mapping[str, HearModel], protocol: Protocol) -> TaskReport:
    """Embed a task's clips with every system, then probe each system."""
    with tqdm(total=task.n_clips, desc=f"{task.name}: embed", unit="clip", disable=None) as bar:
        embedded = embed_task(task, systems, bar.update)
    trainings = len(systems) * n_trainings(task.metadata, protocol)
    with tqdm(total=trainings, desc=f"{task.name}: probe", unit="probe", disable=None) as bar:
        results = {
            system: evaluate(task.metadata, splits, protocol, progress=lambda _: bar.update())
            for system, splits in embedded.items()
        }
    score, arrangements = task.metadata.evaluation[0], task.arrangements()
    chance = None
    if not task.metadata.is_event:
        tested = np.concatenate([task.targets(arrangement.test) for arrangement in arrangements])
        chance = chance_level(score, tested)
    return TaskReport(
        task=task.name,
        score=score,
        n_clips=task.n_clips,
        n_folds=len(arrangements),
        chance=chance,
        systems=results,
    )


def embed_task(
    task: Task, systems: Mapping[str, HearModel], progress: Callable[[int], object]
) -> dict[str, dict[str, Embedded]]:
    """Read every clip once and embed it with each system.

    Returns:
        For each system and split, embeddings on the system's device, with their targets.
    """
    embedded: dict[str, dict[str, Embedded]] = {system: {} for system in systems}
    embed = embed_events if task.metadata.is_event else embed_scenes
    for split in task.splits:
        for system, part in embed(task, split, systems, progress).items():
            if not part.embeddings.isfinite().all():
                raise UserError(f"{system}: embeddings of {task.name} are not finite; retrain it")
            embedded[system][split] = part
    return embedded


def embed_scenes(
    task: Task, split: str, systems: Mapping[str, HearModel], progress: Callable[[int], object]
) -> dict[str, Embedded]:
    """Embed every clip of a split as a whole."""
    parts: dict[str, list[Tensor]] = {system: [] for system in systems}
    first = next(iter(systems.values()))
    waves = (read_clip(clip, first.sample_rate) for clip in task.splits[split])
    for audio in equal_lengths(waves, first.clips_per_pass):
        for system, model in systems.items():
            parts[system].append(get_scene_embeddings(audio, model))
        progress(len(audio))
    targets = torch.from_numpy(task.targets(split))
    return {
        system: Embedded(torch.cat(some), targets.to(some[0].device))
        for system, some in parts.items()
    }


def embed_events(
    task: Task, split: str, systems: Mapping[str, HearModel], progress: Callable[[int], object]
) -> dict[str, Embedded]:
    """Embed every clip of a split at its timestamps."""
    parts: dict[str, list[Embedded]] = {system: [] for system in systems}
    first = next(iter(systems.values()))
    for clip in task.splits[split]:
        audio = torch.from_numpy(read_clip(clip, first.sample_rate))[None]
        for system, model in systems.items():
            embeddings, timestamps = get_timestamp_embeddings(audio, model)
            times = timestamps[0].cpu().double().numpy()
            targets = torch.from_numpy(task.frame_targets(clip, times)).to(embeddings.device)
            timeline = Timeline(timestamps_ms=times, events=clip.events)
            parts[system].append(Embedded(embeddings[0], targets, (timeline,)))
        progress(1)
    return {system: join(some) for system, some in parts.items()}


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

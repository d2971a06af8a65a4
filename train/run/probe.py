"""Score the encoder of a run on labelled clips while it is being trained."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from audio_barlow_twins.eval.embed.embedded import Embedded
from audio_barlow_twins.eval.embed.files import Sound, log_mel_of, passes
from audio_barlow_twins.eval.embed.tasks import read_clip
from audio_barlow_twins.eval.probe.evaluate import evaluate
from audio_barlow_twins.eval.probe.knn import knn_score
from audio_barlow_twins.eval.probe.recipe import ProbeRecipe
from audio_barlow_twins.eval.tasks.task import Task, read_task
from audio_barlow_twins.model.checkpoint import Checkpoint
from audio_barlow_twins.model.embedder import Embedder, frozen
from audio_barlow_twins.shards.base.errors import UserError

KEPT_BYTES = 2**30
"""Log-mel of all tasks that stays in memory: about 23 hours of sound."""
LINEAR = ProbeRecipe(
    name="linear",
    grid={"hidden_layers": (0,), "lr": (3.2e-3, 3.2e-4), "max_epochs": (100,), "patience": (10,)},
    chained=False,
    stop_at_nan=False,
)
"""One layer on the embeddings, at two learning rates; otherwise as heareval."""

Kind = Literal["knn", "linear"]


@dataclass(frozen=True)
class _Part:
    """Clips of a task that are embedded in one pass."""

    numbers: list[int]
    """Positions among the clips of all splits."""
    log_mel: Tensor | None
    """float16 [n, T, F] in host memory; None if there was no room for it."""


class Probe:
    """Score encoders on the test clips of scene tasks, by the first score of each task.

    A frozen copy of the encoder is scored, so the run is not affected. All encoders must have the
    front-end of `checkpoint`.

    Raises:
        UserError: a task cannot be used.
    """

    def __init__(
        self, folders: Sequence[Path], kind: Kind, checkpoint: Checkpoint, device: torch.device
    ) -> None:
        self.kind, self.device = kind, device
        model = self._copy(checkpoint)
        tasks = [scene_task(folder, model.sample_rate) for folder in folders]
        if len({task.name for task in tasks}) < len(tasks):
            raise UserError("two of the probe's tasks have the same name; rename a folder")
        self.clips: list[TaskClips] = []
        for task in tasks:
            room = KEPT_BYTES - sum(clips.kept_bytes for clips in self.clips)
            self.clips.append(TaskClips(task, model, room))

    def scores(self, checkpoint: Checkpoint) -> dict[str, float]:
        """Return `probe_TASK` for every task; NaN if embeddings are not finite."""
        model = self._copy(checkpoint)
        return {f"probe_{clips.task.name}": self._score(clips, model) for clips in self.clips}

    def _copy(self, checkpoint: Checkpoint) -> Embedder:
        with torch.random.fork_rng(devices=[]):  # building an encoder draws random weights
            return frozen(checkpoint, str(self.device))

    def _score(self, clips: "TaskClips", model: Embedder) -> float:
        metadata, splits = clips.task.metadata, clips.embed(model)
        if not all(part.embeddings.isfinite().all() for part in splits.values()):
            return math.nan
        if self.kind == "knn":
            return knn_score(metadata, splits)
        return evaluate(metadata, splits, LINEAR).mean


class TaskClips:
    """The clips of a scene task, to be embedded by one encoder after another.

    Their log-mel stays in memory, in float16 as in shards; clips for which `room` bytes do not
    suffice are read again each time. `model` has the front-end and the device of all encoders.
    """

    def __init__(self, task: Task, model: Embedder, room: int) -> None:
        self.task = task
        self.files = [clip for clips in task.splits.values() for clip in clips]
        self.parts: list[_Part] = []
        self.kept_bytes = 0
        for group in passes((self._sound(i, model) for i in range(task.n_clips)), model):
            log_mel = log_mel_of(group, model).half().cpu()
            fits = self.kept_bytes + log_mel.nbytes <= room
            self.kept_bytes += log_mel.nbytes if fits else 0
            self.parts.append(_Part([i for i, _ in group], log_mel if fits else None))

    @torch.no_grad()
    def embed(self, model: Embedder) -> dict[str, Embedded]:
        """Embed whole clips; the rows of a split are in the order of the task."""
        embeddings = torch.empty(self.task.n_clips, model.scene_embedding_size, device=model.device)
        for part in self.parts:
            log_mel = part.log_mel
            if log_mel is None:
                log_mel = log_mel_of([(i, self._sound(i, model)) for i in part.numbers], model)
            embeddings[part.numbers] = model.encode(log_mel.half().to(model.device).float())
        splits = embeddings.split([len(clips) for clips in self.task.splits.values()])
        return {
            split: Embedded(part, torch.from_numpy(self.task.targets(split)).to(part.device))
            for split, part in zip(self.task.splits, splits, strict=True)
        }

    def _sound(self, number: int, model: Embedder) -> Sound:
        clip = self.files[number]
        return Sound(clip.path, read_clip(clip, model.sample_rate))


def scene_task(folder: Path, sample_rate: int) -> Task:
    """Read a task; raise a UserError unless it is a scene task."""
    task = read_task(folder, sample_rate)
    if task.metadata.is_event:
        raise UserError(f"{folder}: is an event task; a probe while training needs scene tasks")
    return task

"""Scores on disk: a file for each system, task and seed, which is complete if it is there."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from audio_barlow_twins.shards.base.files import replacing
from audio_barlow_twins.shards.base.lock import alone

from ..embed.embedded import Embedded
from ..probe.evaluate import evaluate
from ..probe.recipe import ProbeRecipe
from ..probe.result import TaskResult, Training
from ..probe.scores import chance_level
from ..tasks.task import Task

TRAININGS = ".trainings.jsonl"
"""Replaces the name's ending while a file is on its way: probes that have been trained."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What one system reached on one task, as it is kept."""

    system: str
    """What the report calls it."""
    inputs: Mapping[str, Any]
    """What decides the scores, as plain values."""
    n_clips: int
    n_folds: int
    """Number of test sets that a score is the mean of."""
    chance: float | None
    """Score reached without listening; None for event tasks."""
    result: TaskResult

    @classmethod
    def read(cls, path: Path) -> "Scores | None":
        """Read a file that `score` wrote; None if there is none."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        inputs = _current(values.pop("made_of", None) or values.pop("inputs"))
        return cls(**values | {"inputs": inputs, "result": TaskResult.from_json(values["result"])})

    def write(self, path: Path) -> None:
        """Write a file, complete or not at all."""
        with replacing(path) as scratch:
            scratch.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def score(
    task: Task,
    splits: Callable[[], Mapping[str, Embedded]],
    protocol: ProbeRecipe,
    path: Path,
    system: str,
    inputs: Mapping[str, Any],
) -> Scores:
    """Train and test probes, unless that is done; each is written down as it is trained.

    A call that was interrupted goes on where it was, and several processes do the work once.

    Args:
        task: what is asked.
        splits: returns the embeddings of every split; called only if probes are to be trained.
        protocol: how probes are trained.
        path: JSON file to write.
        system: what the report calls the system.
        inputs: what decides the scores, as plain values; what was made of something else is
            done again.
    """
    inputs = json.loads(json.dumps(inputs))  # as it is read back
    begun = path.with_suffix(TRAININGS)
    # The workers of a driver that was killed may live for a few seconds more.
    with alone(path.with_suffix(".lock")), begun.open("a+", encoding="utf-8") as log:
        known = Scores.read(path)
        if known is None or known.inputs != inputs:
            finished = _continue(log, inputs)

            def note(training: Training) -> None:
                log.write(json.dumps(asdict(training)) + "\n")
                log.flush()

            result = evaluate(task.metadata, splits(), protocol, finished, note)
            known = _scores(task, system, inputs, result)
            known.write(path)
        begun.unlink()
        return known


def count_trainings(path: Path) -> int:
    """Count the probes that were trained for a file that is on its way."""
    try:
        return max(0, path.with_suffix(TRAININGS).read_bytes().count(b"\n") - 1)
    except FileNotFoundError:
        return 0


def _scores(task: Task, system: str, inputs: Mapping[str, Any], result: TaskResult) -> Scores:
    arrangements, chance = task.arrangements(), None
    if not task.metadata.is_event:
        tested = np.concatenate([task.targets(arrangement.test) for arrangement in arrangements])
        chance = chance_level(result.score, tested)
    return Scores(
        system=system,
        inputs=inputs,
        n_clips=task.n_clips,
        n_folds=len(arrangements),
        chance=chance,
        result=result,
    )


def _current(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return inputs that an earlier build may have written, by the names of today.

    Its `fast` trained otherwise, so those stay unlike today's.
    """
    recipe = inputs.get("protocol", {})
    if recipe.get("bfloat16") is False:
        renamed = {("batched" if k == "bfloat16" else k): v for k, v in recipe.items()}
        return inputs | {"protocol": renamed}
    return inputs


def _continue(log: TextIO, inputs: Mapping[str, Any]) -> list[Training]:
    """Read what an interrupted call has trained; a line that it left unfinished is cut off.

    The first line says what it was made of; if that is another, nothing counts.
    """
    log.seek(0)
    first, *lines = log.read().rpartition("\n")[0].split("\n")
    if not first or _current(json.loads(first)) != inputs:
        lines = []
    log.truncate(0)
    log.write("".join(f"{line}\n" for line in (json.dumps(inputs), *lines)))
    log.flush()
    return [Training.from_json(json.loads(line)) for line in lines]

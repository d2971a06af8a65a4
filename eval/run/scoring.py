"""Scores on disk: a file for each system, task and seed, written atomically."""

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
"""Suffix of the file that keeps trained probes until all scores are there."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    system: str
    """Row of the report."""
    inputs: Mapping[str, Any]
    """What decides the scores, as plain values."""
    n_clips: int
    n_folds: int
    """Number of test sets that a score is the mean of."""
    chance: float | None
    """Score without listening; None for event tasks."""
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
    """Train and test probes unless that is done, and log each one as it is trained.

    An interrupted call is resumed by the next one, and several processes do the work once.

    Args:
        task: the task.
        splits: returns the embeddings of every split; called only if probes are missing.
        protocol: how probes are trained.
        path: JSON file to write.
        system: row of the report.
        inputs: what decides the scores, as plain values; what was made of something else is
            done again.
    """
    inputs = json.loads(json.dumps(inputs))  # as it is read back
    begun = path.with_suffix(TRAININGS)
    # The workers of a driver that was killed may run for a few seconds more.
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
    """Count the probes that have been trained for a scores file that is not complete."""
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
    """Read what an interrupted call has trained, and drop an incomplete last line.

    With another first line than `inputs`, all lines are dropped.
    """
    log.seek(0)
    first, *lines = log.read().rpartition("\n")[0].split("\n")
    if not first or _current(json.loads(first)) != inputs:
        lines = []
    log.truncate(0)
    log.write("".join(f"{line}\n" for line in (json.dumps(inputs), *lines)))
    log.flush()
    return [Training.from_json(json.loads(line)) for line in lines]

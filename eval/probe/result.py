"""What evaluating one set of embeddings on one task brings to light."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .detection import PostProcessing
from .recipe import Point


@dataclass(frozen=True, kw_only=True)
class Training:
    """One probe, trained and tested. Plain values only, so that it can be kept as JSON."""

    point: Point
    test_split: str
    validation_score: float
    epoch: int
    """Of the best validation, counted from 0."""
    postprocessing: PostProcessing | None
    test: Mapping[str, float]
    """Loss and scores on the test split, by heareval's names; empty for a beaten point."""
    time_in_min: float
    generator: str
    """State of the random generator afterwards; empty where the next training has its own."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Training":
        """Read back what `asdict` made."""
        way = values["postprocessing"]
        parts = {
            "point": Point(**values["point"]),
            "postprocessing": PostProcessing(**way) if way else None,
        }
        return cls(**{**values, **parts})

    def numbers(self) -> dict[str, float]:
        """Return what heareval writes of one test split."""
        return {
            **self.test,
            "validation_score": self.validation_score,
            "epoch": self.epoch,
            "time_in_min": self.time_in_min,
        }


@dataclass(frozen=True, kw_only=True)
class Run:
    """Grid, folds and tests, once."""

    seed: int
    tried: tuple[Training, ...]
    """Every point of the grid, on the first arrangement, in order."""
    folds: tuple[Training, ...]
    """The best point on every arrangement; the first is one of `tried`."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Run":
        """Read back what `asdict` made."""
        parts = {
            name: tuple(Training.from_json(each) for each in values[name])
            for name in ("tried", "folds")
        }
        return cls(seed=values["seed"], **parts)

    @property
    def point(self) -> Point:
        """The chosen hyperparameters."""
        return self.folds[0].point

    @property
    def test_score(self) -> float:
        """Mean of the test score over folds, without those that are NaN."""
        return mean([fold.test["test_score"] for fold in self.folds])

    def as_heareval(self, score_mode: str) -> dict[str, Any]:
        """Return what heareval writes to `test.predicted-scores.json`."""
        content: dict[str, Any] = {fold.test_split: fold.numbers() for fold in self.folds}
        if len(self.folds) > 1:
            columns = {
                name: [fold.numbers()[name] for fold in self.folds]
                for name in self.folds[0].numbers()
            }
            content["aggregated_scores"] = {
                f"{name}_{what}": summary(values)
                for name, values in columns.items()
                for what, summary in (("mean", mean), ("std", deviation))
            }
        way = self.folds[0].postprocessing
        return content | {
            "hparams": asdict(self.point),
            "postprocessing": [
                ["median_filter_ms", way.median_filter_ms], ["min_duration", way.min_duration_ms],
            ] if way else [],
            "score_mode": score_mode,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """What one set of embeddings reached on one task."""

    task: str
    protocol: str
    score: str
    """Name of the score that counts."""
    score_mode: str
    """Whether the number that chose the probe was best at its "max" or its "min"."""
    runs: tuple[Run, ...]
    """One for each seed."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TaskResult":
        """Read back what `asdict` made."""
        return cls(**{**values, "runs": tuple(Run.from_json(each) for each in values["runs"])})

    @property
    def mean(self) -> float:
        """Mean of the score over seeds and folds."""
        return mean([run.test_score for run in self.runs])

    @property
    def std(self) -> float | None:
        """Sample standard deviation over seeds, or with one seed over folds; None with neither."""
        if len(self.runs) > 1:
            return deviation([run.test_score for run in self.runs])
        folds = self.runs[0].folds
        return deviation([fold.test["test_score"] for fold in folds]) if len(folds) > 1 else None

    @property
    def trainings(self) -> tuple[Training, ...]:
        """All trainings in the order in which they were done."""
        return tuple(training for run in self.runs for training in (*run.tried, *run.folds[1:]))


def mean(values: Sequence[float]) -> float:
    """Average what is not NaN; NaN if nothing is left."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def deviation(values: Sequence[float]) -> float:
    """Sample standard deviation of what is not NaN; NaN of fewer than two or infinite values."""
    known = [value for value in values if not math.isnan(value)]
    if len(known) < 2 or any(map(math.isinf, known)):
        return math.nan
    return float(np.std(known, ddof=1))

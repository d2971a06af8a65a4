"""Scores side by side: a plain table to read, and a JSON file for further use."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import replacing

from ..probe.recipe import ProbeRecipe
from ..probe.result import TaskResult


@dataclass(frozen=True, kw_only=True)
class TaskReport:
    """The scores of all systems on one task."""

    task: str
    score: str
    n_clips: int
    n_folds: int
    """Number of test sets that a score is the mean of."""
    chance: float | None
    """Score without listening; None for event tasks."""
    systems: Mapping[str, TaskResult]
    """By name; in a running evaluation, a system may still be missing."""
    differences: tuple[str, ...] = ()
    """How the folder differs from the paper's task of that name."""

    def as_json(self) -> dict[str, Any]:
        return {
            "score": self.score,
            "n_clips": self.n_clips,
            "n_folds": self.n_folds,
            "chance": self.chance,
            "systems": {
                name: {
                    "mean": result.mean,
                    "std": result.std,
                    "folds": [fold.test["test_score"] for run in result.runs for fold in run.folds],
                    "runs": [run.as_heareval(result.score_mode) for run in result.runs],
                }
                for name, result in self.systems.items()
            },
        }


def score_table(reports: Sequence[TaskReport]) -> str:
    """Return a table of scores in percent: a row for each system, a column for each task."""
    rows = [
        ["", *(report.task for report in reports)],
        ["score", *(report.score for report in reports)],
        ["clips", *(str(report.n_clips) for report in reports)],
    ]
    for system in dict.fromkeys(name for report in reports for name in report.systems):
        results = (report.systems.get(system) for report in reports)
        rows.append([system, *("-" if result is None else percent(result) for result in results)])
    chances = (report.chance for report in reports)
    rows.append(["chance", *("-" if p is None else f"{100 * p:.1f}" for p in chances)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        aligned = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join([name.ljust(widths[0]), *aligned]))
    caption = "percent; mean ± standard deviation over test folds; chance: commonest class, "
    return "\n".join([*lines, caption + "for mAP a random ranking"])


def percent(result: TaskResult) -> str:
    """Format a score in percent, with its deviation if there is one."""
    mean = f"{100 * result.mean:.1f}"
    return mean if result.std is None else f"{mean} ± {100 * result.std:.1f}"


def write_scores(
    out: Path, facts: Mapping[str, Any], protocol: ProbeRecipe, reports: Sequence[TaskReport]
) -> None:
    content = {
        "checkpoint": dict(facts),
        "protocol": asdict(protocol),
        "tasks": {report.task: report.as_json() for report in reports},
    }
    try:
        with replacing(out) as scratch:
            scratch.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror or error}") from error

"""Scores side by side: a plain table to read, and a JSON file to go on with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.probe import GRID, ProbeResult, Schedule
from shards.cli import UserError
from shards.files import replacing


@dataclass(frozen=True, kw_only=True)
class TaskReport:
    """What the systems reached on one task."""

    task: str
    score: str
    n_clips: int
    n_folds: int
    """Number of test sets that a score is the mean of."""
    chance: float
    systems: Mapping[str, ProbeResult]

    def as_json(self) -> dict[str, Any]:
        """Return plain values for the scores file."""
        return {
            "score": self.score,
            "n_clips": self.n_clips,
            "n_folds": self.n_folds,
            "chance": self.chance,
            "systems": {
                name: asdict(result) | {"mean": result.mean, "std": result.std}
                for name, result in self.systems.items()
            },
        }


def score_table(reports: Sequence[TaskReport]) -> str:
    """Lay out scores in percent: a row for each system, a column for each task."""
    rows = [
        ["", *(report.task for report in reports)],
        ["score", *(report.score for report in reports)],
        ["clips", *(str(report.n_clips) for report in reports)],
    ]
    for system in reports[0].systems:
        rows.append([system, *(percent(report.systems[system]) for report in reports)])
    rows.append(["chance", *(f"{100 * report.chance:.1f}" for report in reports)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        aligned = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join([name.ljust(widths[0]), *aligned]))
    caption = "percent; mean ± standard deviation over test folds; chance: commonest class, "
    return "\n".join([*lines, caption + "for mAP a random ranking"])


def percent(result: ProbeResult) -> str:
    """Write a score in percent, with its deviation if there are several folds."""
    mean = f"{100 * result.mean:.1f}"
    return mean if result.std is None else f"{mean} ± {100 * result.std:.1f}"


def write_scores(out: Path, facts: Mapping[str, Any], reports: Sequence[TaskReport]) -> None:
    """Write the scores file, complete or not at all."""
    content = {
        "checkpoint": dict(facts),
        "probe": asdict(Schedule()) | {"grid": [asdict(point) for point in GRID]},
        "tasks": {report.task: report.as_json() for report in reports},
    }
    try:
        with replacing(out) as scratch:
            scratch.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror or error}") from error

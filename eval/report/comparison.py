"""Systems side by side: their shared tasks, averages, and gains over random initialisation.

Averages are compared only over tasks that all systems of a table have.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..probe.result import mean
from ..tasks.metadata import MINIMISED_SCORES
from ..tasks.suite import PAPER_TASKS, paper_task
from .published import GROUPS, OWN, Published, group_of
from .scores import TaskReport

RANDOM = "random init"
"""Default name of the baseline."""
HEAR_L = {
    "HEAR-L, LibriCount": tuple(task.folder for task in PAPER_TASKS if task.hear_l),
    "HEAR-L, Speech Commands 5h": tuple(
        task.folder
        for task in PAPER_TASKS
        if (task.hear_l or task.title == "Speech Commands 5h") and task.title != "LibriCount"
    ),
}
"""The paper's small set: by its footnote, and with the task that reproduces its averages."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    mean: float
    std: float | None = None
    """Over seeds, or with one seed over folds; None with one seed and one fold."""


@dataclass(frozen=True, kw_only=True)
class Column:
    report: TaskReport
    title: str
    group: str

    @property
    def task(self) -> str:
        """Name of the task folder."""
        return self.report.task

    @property
    def is_share(self) -> bool:
        """Whether the score is in [0, 1] and more is better, so that it can be averaged."""
        return not self.is_minimised and self.report.score != "d_prime"

    @property
    def is_minimised(self) -> bool:
        return self.report.score in MINIMISED_SCORES

    @property
    def is_published(self) -> bool:
        """Whether this is the paper's task with the paper's score."""
        known = paper_task(self.task)
        same = known is not None and known.evaluation[0] == self.report.score
        return same and not self.report.differences

    def best(self, rows: Iterable["Row"]) -> float:
        """Return the best score of some rows; NaN without one."""
        known = [row.cells[self.task].mean for row in rows if self.task in row.cells]
        choose = min if self.is_minimised else max
        return choose((value for value in known if not math.isnan(value)), default=math.nan)


@dataclass(frozen=True, kw_only=True)
class Row:
    name: str
    source: str = ""
    """Publication; empty for a system that was run."""
    baseline: str = ""
    """Name of the row to compare with, if there is one."""
    cells: Mapping[str, Cell]
    """By task folder; a task may be missing."""

    def known(self, columns: Iterable[Column]) -> tuple[str, ...]:
        """List the tasks whose scores can be averaged."""
        return tuple(
            column.task
            for column in columns
            if column.is_share
            and column.task in self.cells
            and math.isfinite(self.cells[column.task].mean)
        )

    def average(self, tasks: Sequence[str]) -> float:
        """Average over tasks, each counting once; NaN without tasks or if one is missing."""
        if not tasks or any(task not in self.cells for task in tasks):
            return math.nan
        return mean([self.cells[task].mean for task in tasks])


@dataclass(frozen=True, kw_only=True)
class Comparison:
    columns: tuple[Column, ...]
    """Tasks in the order of their groups."""
    runs: tuple[Row, ...]
    """Systems that were run; the first is the report's subject."""
    anchors: tuple[Row, ...]
    """Published systems that have a score on one of the tasks."""
    others: tuple[Row, ...]
    """Further published systems."""

    def shared(self, rows: Sequence[Row]) -> tuple[str, ...]:
        """List the tasks on which all rows have a score that can be averaged."""
        tasks = [column.task for column in self.columns]
        known = [set(row.known(self.columns)) for row in rows]
        return tuple(task for task in tasks if all(task in some for some in known))

    def groups(self, tasks: Sequence[str] | None = None) -> dict[str, tuple[str, ...]]:
        """Return tasks, by default all, by group."""
        chosen = [each for each in self.columns if tasks is None or each.task in tasks]
        return {
            group: tuple(column.task for column in chosen if column.group == group)
            for group in dict.fromkeys(column.group for column in chosen)
        }

    def sets(self, tasks: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Return the sets of tasks to average by name: groups, all, and HEAR-L if complete."""
        whole = {name: some for name, some in HEAR_L.items() if set(some) <= set(tasks)}
        return self.groups(tasks) | {"all": tuple(tasks)} | whole

    def baseline_of(self, row: Row) -> Row | None:
        """Return the row of the same encoder without training, if there is one."""
        rows = self.anchors + self.others if row.source else self.runs
        return next((each for each in rows if each.name == row.baseline), None)

    def over_random(self, row: Row, tasks: Sequence[str]) -> float:
        """Return the gain of a row's average over that of its baseline in percent, or NaN."""
        base = self.baseline_of(row)
        return percent_over(row.average(tasks), base.average(tasks)) if base else math.nan

    def best(self, tasks: Sequence[str]) -> Row | None:
        """Return the published system with the highest average among those with all tasks."""
        able = [row for row in (*self.anchors, *self.others) if set(tasks) <= row.cells.keys()]
        return max(able, key=lambda row: row.average(tasks)) if able and tasks else None


def percent_over(value: float, baseline: float) -> float:
    """Return the gain of a score over a baseline's in percent; NaN for a baseline of 0."""
    return 100 * (value / baseline - 1) if baseline else math.nan


def compare(
    reports: Sequence[TaskReport],
    anchors: Sequence[Published],
    others: Sequence[Published],
    ours: str = "",
    baseline: str = RANDOM,
) -> Comparison:
    """Arrange reports and published scores.

    Args:
        reports: one for each task; a system may be missing from any.
        anchors: published systems to show beside those that were run.
        others: further published systems; models among the anchors are skipped.
        ours: name of the report's subject; the first system if empty.
        baseline: name of the system to compare with.
    """
    order = [*(task.folder for task in PAPER_TASKS), *(report.task for report in reports)]
    groups = [*GROUPS, OWN]
    columns = sorted(
        (_column(report) for report in reports),
        key=lambda column: (groups.index(column.group), order.index(column.task)),
    )
    names = dict.fromkeys(name for report in reports for name in report.systems)
    first = ours or next(iter(names), "")
    ranked = sorted(names, key=lambda name: (name != first, name != baseline))
    shown = {anchor.model for anchor in anchors}
    return Comparison(
        columns=tuple(columns),
        runs=tuple(_run(name, columns, baseline) for name in ranked),
        anchors=_published(anchors, columns),
        others=_published([each for each in others if each.model not in shown], columns),
    )


def _column(report: TaskReport) -> Column:
    known = paper_task(report.task)
    return Column(
        report=report,
        title=known.title if known else report.task,
        group=group_of(report.task),
    )


def _run(name: str, columns: Sequence[Column], baseline: str) -> Row:
    cells = {}
    for column in columns:
        if result := column.report.systems.get(name):
            cells[column.task] = Cell(mean=result.mean, std=result.std)
    return Row(name=name, baseline=baseline if name != baseline else "", cells=cells)


def _published(some: Iterable[Published], columns: Sequence[Column]) -> tuple[Row, ...]:
    rows = (
        Row(
            name=each.model,
            source=each.source,
            baseline=each.baseline,
            cells={
                column.task: Cell(mean=each.scores[key])
                for column in columns
                if column.is_published
                and (key := (column.task, column.report.score)) in each.scores
            },
        )
        for each in some
    )
    return tuple(row for row in rows if row.cells)

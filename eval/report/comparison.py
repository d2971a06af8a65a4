"""Systems side by side: which tasks they share, their averages, and how far above random they are.

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
"""Name of the system that others are measured against."""
HEAR_L = {
    "HEAR-L, LibriCount": tuple(task.folder for task in PAPER_TASKS if task.hear_l),
    "HEAR-L, Speech Commands 5h": tuple(
        task.folder
        for task in PAPER_TASKS
        if (task.hear_l or task.title == "Speech Commands 5h") and task.title != "LibriCount"
    ),
}
"""The paper's small set: by its footnote, and as its published averages come out."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The score of one system on one task."""

    mean: float
    std: float | None = None
    """Over seeds, or with one seed over folds; None with neither."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A task of the comparison."""

    report: TaskReport
    title: str
    group: str

    @property
    def task(self) -> str:
        """Name of the task folder."""
        return self.report.task

    @property
    def is_share(self) -> bool:
        """Whether the score lies from 0 to 1 and more is better, so that it can be averaged."""
        return not self.is_minimised and self.report.score != "d_prime"

    @property
    def is_minimised(self) -> bool:
        """Whether less is better."""
        return self.report.score in MINIMISED_SCORES

    @property
    def is_published(self) -> bool:
        """Whether this is the paper's task, scored as it is there."""
        known = paper_task(self.task)
        same = known is not None and known.evaluation[0] == self.report.score
        return same and not self.report.differences

    def best(self, rows: Iterable["Row"]) -> float:
        """Return the best score of some rows; NaN, which nothing equals, if there is none."""
        known = [row.cells[self.task].mean for row in rows if self.task in row.cells]
        choose = min if self.is_minimised else max
        return choose((value for value in known if not math.isnan(value)), default=math.nan)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A system of the comparison."""

    name: str
    source: str = ""
    """Who published it; empty for a system that was run."""
    baseline: str = ""
    """Name of the row that this one is measured against, if there is one."""
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
    """Rows by columns."""

    columns: tuple[Column, ...]
    """Tasks in the order of their groups."""
    runs: tuple[Row, ...]
    """Systems that were run; the first is the one that the report is about."""
    anchors: tuple[Row, ...]
    """Published systems that have a score on one of the tasks."""
    others: tuple[Row, ...]
    """Further published systems."""

    def shared(self, rows: Sequence[Row]) -> tuple[str, ...]:
        """List the tasks that all of some rows have."""
        tasks = [column.task for column in self.columns]
        known = [set(row.known(self.columns)) for row in rows]
        return tuple(task for task in tasks if all(task in some for some in known))

    def groups(self, tasks: Sequence[str] | None = None) -> dict[str, tuple[str, ...]]:
        """Sort tasks, or all, by group; groups without any are left out."""
        chosen = [each for each in self.columns if tasks is None or each.task in tasks]
        return {
            group: tuple(column.task for column in chosen if column.group == group)
            for group in dict.fromkeys(column.group for column in chosen)
        }

    def sets(self, tasks: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Name the sets of tasks that are averaged: groups, all, and HEAR-L if it is there."""
        whole = {name: some for name, some in HEAR_L.items() if set(some) <= set(tasks)}
        return self.groups(tasks) | {"all": tuple(tasks)} | whole

    def baseline_of(self, row: Row) -> Row | None:
        """Find the row of the same encoder without training."""
        rows = self.anchors + self.others if row.source else self.runs
        return next((each for each in rows if each.name == row.baseline), None)

    def over_random(self, row: Row, tasks: Sequence[str]) -> float:
        """Say by how many percent an average lies above that of the row's baseline; NaN if none."""
        base = self.baseline_of(row)
        return percent_over(row.average(tasks), base.average(tasks)) if base else math.nan

    def best(self, tasks: Sequence[str]) -> Row | None:
        """Find the published system with the highest average over tasks; it has all of them."""
        able = [row for row in (*self.anchors, *self.others) if set(tasks) <= row.cells.keys()]
        return max(able, key=lambda row: row.average(tasks)) if able and tasks else None


def percent_over(value: float, baseline: float) -> float:
    """Percentage by which a score, or an average, lies above that of the random baseline."""
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
        reports: of each task; a system may be missing from any.
        anchors: published systems to show beside those that were run.
        others: further ones; a model that is among the anchors is left out.
        ours: name of the system that the report is about; the first one if empty.
        baseline: name of the one that systems are measured against.
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

"""The sentences of a report, above and below its tables."""

import math
from collections.abc import Sequence

from ..probe.recipe import ProbeRecipe
from ..tasks.suite import PAPER_TASKS
from .comparison import Cell, Column, Comparison, Row
from .published import OWN

FEW_TASKS = 5
FEW_CLIPS = 500
"""A task that is not the paper's gets a warning if it has fewer clips."""


def percent(value: float | None) -> str:
    """Format a share in percent; "-" for none."""
    return "-" if value is None or not math.isfinite(value) else f"{100 * value:.1f}"


def written(cell: Cell | None, column: Column) -> tuple[str, str]:
    """Format a score and its deviation; '' for no deviation, '-' for no score."""
    if cell is None:
        return "-", ""
    if math.isnan(cell.mean):
        return "NaN", ""
    by, digits = (100, 1) if column.is_share else (1, 2)
    std = "" if cell.std is None or math.isnan(cell.std) else f"± {by * cell.std:.{digits}f}"
    return f"{by * cell.mean:.{digits}f}", std


def signed_percent(value: float) -> str:
    return f"{value:+.1f} %" if math.isfinite(value) else "-"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def several(numbers: Sequence[int], noun: str) -> str:
    """Format the range of several numbers with a noun, such as "1 to 5 seeds"."""
    low, high = min(numbers), max(numbers)
    return count(high, noun) if low == high else f"{low} to {count(high, noun)}"


def headline(comparison: Comparison, protocol: ProbeRecipe) -> list[str]:
    """Compare the first system with random weights and with published systems, in sentences."""
    if not comparison.runs:
        return ["Nothing has been scored yet."]
    ours = comparison.runs[0]
    said = [*_beside_random(comparison, ours), *_beside_published(comparison, ours)]
    folds = [column.report.n_folds for column in comparison.columns]
    runs = [
        len(result.runs)
        for column in comparison.columns
        for result in column.report.systems.values()
    ]
    how_often = f"{several(runs, 'seed')}, {several(folds, 'test set')} a task"
    return [*said, f"Protocol {protocol.name}: {how_often}."]


def _beside_random(comparison: Comparison, ours: Row) -> list[str]:
    base = comparison.baseline_of(ours)
    tasks = comparison.shared([ours, base] if base else [ours])
    if not tasks:
        return []
    said = (
        f"{ours.name}: {percent(ours.average(tasks))} % on average over {count(len(tasks), 'task')}"
    )
    if base is None:
        return [said + "."]
    over = comparison.over_random(ours, tasks)
    better = sum(ours.cells[task].mean > base.cells[task].mean for task in tasks)
    way = "more" if over >= 0 else "less"
    return [
        f"{said}, {abs(over):.1f} % {way} than {base.name} ({percent(base.average(tasks))} %); "
        f"it is better on {better} of {len(tasks)}."
    ]


def _beside_published(comparison: Comparison, ours: Row) -> list[str]:
    offered = {column.task for column in comparison.columns if column.is_published}
    tasks = [task for task in ours.known(comparison.columns) if task in offered]
    best = comparison.best(tasks)
    if best is None:
        return []
    gap = 100 * (ours.average(tasks) - best.average(tasks))
    way = "above" if gap >= 0 else "below"
    return [
        f"Best published average over the {count(len(tasks), 'task')} of the paper among them: "
        f"{best.name}, {percent(best.average(tasks))} % ({best.source}); "
        f"{ours.name} is {abs(gap):.1f} points {way} it."
    ]


def warnings(comparison: Comparison) -> list[str]:
    """Return sentences about what limits the averages."""
    columns = comparison.columns
    papers = [column for column in columns if column.is_published]
    said = []
    if len(papers) < len(PAPER_TASKS):
        few = "; an average over so few says little" if len(columns) < FEW_TASKS else ""
        said.append(f"{len(papers)} of the paper's {len(PAPER_TASKS)} tasks have been scored{few}.")
    for column in columns:
        n_clips = column.report.n_clips
        if column.report.differences:
            said.append(
                f"{column.task} is not the paper's task of that name, so no published score is "
                f"shown beside it: {'; '.join(column.report.differences)}."
            )
        elif column.group == OWN and n_clips < FEW_CLIPS:
            clips = count(n_clips, "clip")
            said.append(f"{column.task} is no task of the paper and has just {clips}.")
    said += [_lacking(row, columns) for row in comparison.runs if len(row.cells) < len(columns)]
    return said + [
        f"{row.name} has no score on {column.title} (NaN: no event was detected in any fold); it "
        "counts as missing in averages."
        for row in comparison.runs
        for column in columns
        if column.task in row.cells and math.isnan(row.cells[column.task].mean)
    ]


def _lacking(row: Row, columns: Sequence[Column]) -> str:
    missing = [column.title for column in columns if column.task not in row.cells]
    names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    return (
        f"{row.name} has {len(row.cells)} of {len(columns)} tasks, without {names}; averages are "
        "over the tasks that all have."
    )


def notes(comparison: Comparison, protocol: ProbeRecipe) -> list[str]:
    """Return sentences on how the numbers were made and how to read them."""
    said = [
        "Scores in percent; ± is the sample standard deviation over seeds, or with one seed over "
        "test sets. Error rates and d' are as they are, and no part of averages.",
        "Averages are over the tasks that every row of a table has, each task counting once; the "
        "groups are those of the paper's authors.",
        "Over random: 100 (average / average of the random initialisation - 1), over the same "
        "tasks; for published systems, with the random initialisation that its authors published.",
        "Chance is the score without listening: the commonest class, for mAP a random ranking.",
        "HEAR-L is the paper's small set of five tasks: by its footnote with LibriCount, but its "
        "averages come out with Speech Commands 5h.",
        _protocol_words(protocol),
    ]
    if comparison.anchors:
        said.append(
            "Published scores were made with heareval. Those of the authors of "
            "Audio Barlow Twins carry defects of their code: embeddings in training mode or "
            "normalised by the batch, statistics of event tasks divided once too often."
        )
    return said


def _protocol_words(protocol: ProbeRecipe) -> str:
    batches = "shuffled" if protocol.shuffle else "never shuffled"
    stop = "ends training" if protocol.stop_at_nan else "does not end training"
    rounded = ", in bfloat16 where the device has it" if protocol.batched else ""
    return (
        f"Protocol {protocol.name}: {protocol.grid_points} points of the grid, chosen on the first "
        f"folds; training batches are {batches}; a validation that is not finite {stop}{rounded}. "
        "heareval 2021.1.3 takes 8 points, never shuffles, and stops."
    )

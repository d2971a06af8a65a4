"""A report as text: `report.md` to read, `scores.csv` to compute with."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..probe.recipe import Protocol
from ..probe.result import deviation, mean
from .comparison import HEAR_L, Comparison, Row
from .details import all_scores
from .published import Published, group_of
from .words import headline, notes, percent, signed_percent, warnings, written

COLUMNS = ("system", "task", "group", "score", "mean", "std", "n_folds", "seeds", "source")
RUN_HERE = "this run"


def report_markdown(
    comparison: Comparison, facts: Mapping[str, Any], protocol: Protocol, made: Mapping[str, str]
) -> str:
    """Write the report as Markdown: tasks in rows, systems in columns."""
    rows = [*comparison.runs, *comparison.anchors]
    parts = [["# HEAR report"], headline(comparison, protocol)]
    parts.append([f"**{line}**" for line in warnings(comparison)])
    if rows:
        parts += [["## Averages"], [_averages(comparison, rows)], ["## Scores by task"]]
        parts.append([_scores(comparison, rows), _sources(comparison)])
    parts += [
        ["## How to read this"],
        ["\n".join(f"- {each}" for each in notes(comparison, protocol))],
    ]
    listed = "\n".join(f"- {name}: `{value}`" for name, value in (dict(facts) | dict(made)).items())
    parts += [["## How it was made"], [listed]]
    return "\n\n".join(line for part in parts for line in part if line) + "\n"


def _averages(comparison: Comparison, rows: Sequence[Row]) -> str:
    shared = comparison.shared(rows)
    sets = dict(comparison.groups(shared)) | {"all": shared}
    sets |= {name: tasks for name, tasks in HEAR_L.items() if set(tasks) <= set(shared)}
    head = ["system", *(f"{name} ({len(tasks)})" for name, tasks in sets.items())]
    lines = []
    for row in rows:
        values = [percent(row.average(tasks)) for tasks in sets.values()]
        own = row.known(comparison.columns)
        over = signed_percent(comparison.over_random(row, shared))
        mine = f"{percent(row.average(own))} ({len(own)} of {len(comparison.columns)})"
        lines.append([_named(row), *values, over, mine])
    return _table([*head, "over random", "its own tasks"], lines)


def _scores(comparison: Comparison, rows: Sequence[Row]) -> str:
    head = ["group", "task", "score", *(_named(row) for row in rows), "chance"]
    lines = []
    for column in comparison.columns:
        cells = [
            " ".join(filter(None, written(row.cells.get(column.task), column))) for row in rows
        ]
        chance = column.report.chance
        last = "-" if chance is None else percent(chance)
        lines.append([column.group, column.title, column.report.score, *cells, last])
    return _table(head, lines, texts=3)


def _named(row: Row) -> str:
    return f"{row.name}, published" if row.source else row.name


def _sources(comparison: Comparison) -> str:
    sources: dict[str, list[str]] = {}
    for row in comparison.anchors:
        sources.setdefault(row.source, []).append(row.name)
    said = (f"{source}: {'; '.join(names)}." for source, names in sources.items())
    return f"Published by {' '.join(said)}" if sources else ""


def _table(head: Sequence[str], lines: Sequence[Sequence[str]], texts: int = 1) -> str:
    """Lay out a table; columns after the first `texts` are aligned to the right."""
    whole = [[cell.replace("|", "\\|") for cell in line] for line in (head, *lines)]
    rule = ["---" if i < texts else "---:" for i in range(len(head))]
    rows = [whole[0], rule, *whole[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def scores_csv(comparison: Comparison, published: Sequence[Published]) -> str:
    """Write every score of every system, and those published for the same tasks, in long form.

    Values are as they were computed, NaN too; the first score of a task is the one that counts.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_rows_of_runs(comparison))
    writer.writerows(_rows_of_published(comparison, published))
    return text.getvalue()


def _rows_of_runs(comparison: Comparison) -> Iterable[tuple]:
    for column in comparison.columns:
        for system, result in column.report.systems.items():
            seeds = " ".join(str(run.seed) for run in result.runs)
            n_folds, several = len(result.runs[0].folds), len(result.runs) > 1
            for name, values in all_scores(result).items():
                # As in TaskResult: over seeds if there are several, else over folds.
                means = [mean(values[i : i + n_folds]) for i in range(0, len(values), n_folds)]
                spread = means if several else values
                std = deviation(spread) if len(spread) > 1 else ""
                yield (
                    system,
                    column.task,
                    column.group,
                    name,
                    mean(means),
                    std,
                    n_folds,
                    seeds,
                    RUN_HERE,
                )


def _rows_of_published(comparison: Comparison, published: Sequence[Published]) -> Iterable[tuple]:
    tasks = {column.task for column in comparison.columns if column.is_published}
    for each in published:
        for (task, name), value in each.scores.items():
            if task in tasks:
                yield (each.model, task, group_of(task), name, value, "", "", "", each.source)

"""Details of the scores: hyperparameters, every score, every fold; all scores as CSV."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..probe.result import Run, TaskResult, deviation, mean
from .comparison import Column, Comparison
from .published import Published, group_of

COLUMNS = ("system", "task", "group", "score", "mean", "std", "n_folds", "seeds", "source")
RUN_HERE = "this run"
LEFT_OUT = ("loss", "score")
"""Numbers of a test that are not scores of their own."""
Table = tuple[list[tuple[str, ...]], tuple[str, ...], str]
"""Rows, head and caption."""


def all_scores(result: TaskResult) -> dict[str, list[float]]:
    """Return every score of a task by name, with a value for each seed and test set."""
    folds = [fold.test for run in result.runs for fold in run.folds]
    names = [name for name in folds[0] if name.removeprefix("test_") not in LEFT_OUT]
    return {name.removeprefix("test_"): [test[name] for test in folds] for name in names}


def tables(column: Column) -> Iterator[Table]:
    """Yield tables of a task's scores; none if it has not been scored."""
    systems = column.report.systems
    if not systems:
        return
    scores = ((name, all_scores(result)) for name, result in systems.items())
    means = [{"system": name} | {k: _mean(v) for k, v in each.items()} for name, each in scores]
    yield _table(means, "every score, as a fraction; mean ± deviation")
    runs = [(name, run) for name, result in systems.items() for run in result.runs]
    choices = (_choices(*each) for each in runs)
    yield _table(choices, "chosen hyperparameters; epoch and validation of fold 1")
    if column.report.n_folds > 1:
        yield _table((_folds(*each) for each in runs), "score on each test set")


def _table(rows: Iterable[Mapping[str, str]], caption: str) -> Table:
    rows = list(rows)
    head = tuple(dict.fromkeys(name for row in rows for name in row))
    return [tuple(row.get(name, "-") for name in head) for row in rows], head, caption


def _mean(values: list[float]) -> str:
    spread = f" ± {deviation(values):.4f}" if len(values) > 1 else ""
    return f"{mean(values):.4f}{spread}"


def _choices(system: str, run: Run) -> dict[str, str]:
    first, way = run.folds[0], run.folds[0].postprocessing
    row = {
        "system": system, "seed": str(run.seed), "layers": str(run.point.hidden_layers),
        "initialisation": run.point.initialization, "lr": f"{run.point.lr:g}",
        "epoch": str(first.epoch), "validation": f"{first.validation_score:.4f}",
    }  # fmt: skip
    if way:
        row["median filter, ms"] = f"{way.median_filter_ms:g}"
        row["shortest event, ms"] = f"{way.min_duration_ms:g}"
    trained = (*run.tried, *run.folds[1:])
    return row | {"minutes": f"{sum(each.time_in_min for each in trained):.2f}"}


def _folds(system: str, run: Run) -> dict[str, str]:
    scores = {fold.test_split: f"{fold.test['test_score']:.4f}" for fold in run.folds}
    return {"system": system, "seed": str(run.seed)} | scores


def scores_csv(comparison: Comparison, published: Sequence[Published]) -> str:
    """Return all scores, and those published for the same tasks, as CSV with a row for each.

    Values are not rounded and may be NaN; the first score of a task is the reported one.
    """
    text = io.StringIO()
    rows = (COLUMNS, *_rows_of_runs(comparison), *_rows_of_published(comparison, published))
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _rows_of_runs(comparison: Comparison) -> Iterable[tuple]:
    for column in comparison.columns:
        for system, result in column.report.systems.items():
            seeds = " ".join(str(run.seed) for run in result.runs)
            n_folds = len(result.runs[0].folds)
            for name, values in all_scores(result).items():
                # As in TaskResult: over seeds if there are several, else over folds.
                means = [mean(values[i : i + n_folds]) for i in range(0, len(values), n_folds)]
                spread = means if len(means) > 1 else values
                std = deviation(spread) if len(spread) > 1 else ""
                first = (system, column.task, column.group, name)
                yield (*first, mean(means), std, n_folds, seeds, RUN_HERE)


def _rows_of_published(comparison: Comparison, published: Sequence[Published]) -> Iterable[tuple]:
    tasks = {column.task for column in comparison.columns if column.is_published}
    for each in published:
        for (task, name), value in each.scores.items():
            if task in tasks:
                yield (each.model, task, group_of(task), name, value, "", "", "", each.source)

"""What is behind the scores of one task: hyperparameters, every score, every fold."""

from audio_barlow_twins.shards.html.page import Html, element, join, table

from ..probe.result import Run, TaskResult, deviation, mean
from .comparison import Column
from .words import count, percent

LEFT_OUT = ("loss", "score")
"""Numbers of a test that are no scores of their own."""


def all_scores(result: TaskResult) -> dict[str, list[float]]:
    """Collect every score of a task by name, one value for each seed and test set, in order."""
    folds = [fold.test for run in result.runs for fold in run.folds]
    names = [name for name in folds[0] if name.removeprefix("test_") not in LEFT_OUT]
    return {name.removeprefix("test_"): [test[name] for test in folds] for name in names}


def task_details(column: Column) -> Html:
    """Build the folded part of a task."""
    report = column.report
    chance = "" if report.chance is None else f", chance {percent(report.chance)} %"
    sizes = f"{count(report.n_clips, 'clip')}, {count(report.n_folds, 'test set')}{chance}"
    head = element(
        "summary", element("b", column.title), element("span", f" {sizes}", class_="quiet")
    )
    parts = [element("p", "Nothing has been scored yet.", class_="quiet")]
    if report.systems:
        parts = [_table_of_scores(column), _table_of_choices(column)]
        parts += [_table_of_folds(column)] if report.n_folds > 1 else []
    return element("details", head, element("p", report.task, class_="code"), *parts)


def _table_of_scores(column: Column) -> Html:
    results = column.report.systems
    named = {system: all_scores(result) for system, result in results.items()}
    columns = list(dict.fromkeys(name for scores in named.values() for name in scores))
    rows = [
        (system, *(_summary(scores.get(name, [])) for name in columns))
        for system, scores in named.items()
    ]
    return table(rows, ("system", *columns), "every score, as a fraction; mean ± deviation")


def _summary(values: list[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {deviation(values):.4f}" if len(values) > 1 else ""
    return f"{mean(values):.4f}{spread}"


def _table_of_choices(column: Column) -> Html:
    """List the chosen hyperparameters of each system and seed."""
    rows = [
        (system, str(run.seed), str(run.point.hidden_layers), run.point.initialization,
         f"{run.point.lr:g}", str(run.folds[0].epoch), f"{run.folds[0].validation_score:.4f}",
         *_postprocessing(run), f"{sum(each.time_in_min for each in _trained(run)):.2f}")
        for system, result in column.report.systems.items()
        for run in result.runs
    ]  # fmt: skip
    events = ("median filter, ms", "shortest event, ms") if len(rows[0]) > 8 else ()
    head = ("system", "seed", "layers", "initialisation", "lr", "epoch", "validation", *events)
    return table(rows, (*head, "minutes"), "chosen hyperparameters; epoch and validation of fold 1")


def _trained(run: Run) -> tuple:
    return (*run.tried, *run.folds[1:])


def _postprocessing(run: Run) -> tuple[str, ...]:
    way = run.folds[0].postprocessing
    return (f"{way.median_filter_ms:g}", f"{way.min_duration_ms:g}") if way else ()


def _table_of_folds(column: Column) -> Html:
    """List the score of every test set."""
    first = next(iter(column.report.systems.values()))
    names = [fold.test_split for fold in first.runs[0].folds]
    rows = [
        (system, str(run.seed), *(f"{fold.test['test_score']:.4f}" for fold in run.folds))
        for system, result in column.report.systems.items()
        for run in result.runs
    ]
    return join(table(rows, ("system", "seed", *names), "score on each test set"))

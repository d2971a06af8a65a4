"""Results with given scores, as an evaluation would return them."""

from collections.abc import Mapping, Sequence

from audio_barlow_twins.eval.probe.detection import PostProcessing
from audio_barlow_twins.eval.probe.recipe import Point
from audio_barlow_twins.eval.probe.result import Run, TaskResult, Training
from audio_barlow_twins.eval.report.published import PAPER, Published, read_published
from audio_barlow_twins.eval.report.scores import TaskReport
from audio_barlow_twins.eval.tasks.suite import PAPER_TASKS, PaperTask

WAY = PostProcessing(median_filter_ms=250, min_duration_ms=125)


def training(scores: Mapping[str, float], split: str = "test", event: bool = False) -> Training:
    """Make a probe that has reached some scores; the first counts."""
    numbers = {"loss": 0.5, "score": next(iter(scores.values())), **scores}
    return Training(
        point=Point(lr=3.2e-4, hidden_layers=2),
        test_split=split,
        validation_score=0.75,
        epoch=44,
        postprocessing=WAY if event else None,
        test={f"test_{name}": value for name, value in numbers.items()},
        time_in_min=0.5,
        generator="",
    )


def result(
    values: Sequence[Sequence[float]],
    task: str = "toy-v1-full",
    score: str = "top1_acc",
    event: bool = False,
    **more: float,
) -> TaskResult:
    """Make a result from the score of each fold of each seed; `more` scores are alike in all."""
    runs = []
    for seed, folds in enumerate(values):
        trained = tuple(
            training({score: value, **more}, f"fold{i:02}", event) for i, value in enumerate(folds)
        )
        runs.append(Run(seed=seed, tried=trained[:1], folds=trained))
    return TaskResult(
        task=task, protocol="heareval", score=score, score_mode="max", runs=tuple(runs)
    )


def report(
    systems: Mapping[str, Sequence[float]],
    task: str = "toy-v1-full",
    score: str = "top1_acc",
    n_clips: int = 1000,
    differences: tuple[str, ...] = (),
) -> TaskReport:
    """Make the report of a task from the score of each fold, with one seed."""
    n_folds = max(map(len, systems.values()), default=1)
    results = {name: result([values], task, score) for name, values in systems.items()}
    return TaskReport(
        task=task,
        score=score,
        n_clips=n_clips,
        n_folds=n_folds,
        chance=0.25,
        systems=results,
        differences=differences,
    )


def published(model: str, source: str = PAPER) -> Published:
    """Find the published scores of a model."""
    return next(each for each in read_published() if each.model == model and each.source == source)


def score_on(task: PaperTask, model: Published) -> float | None:
    """Return the published score that counts; None if there is none."""
    return model.scores.get((task.folder, task.evaluation[0]))


def reports_of(systems: Mapping[str, Published]) -> list[TaskReport]:
    """Make reports of the paper's tasks from published scores, each fold with the same."""
    reports = []
    for task in PAPER_TASKS:
        event = task.embedding_type == "event"
        found = {name: score_on(task, model) for name, model in systems.items()}
        results = {
            name: result([[value] * task.folds], task.folder, task.evaluation[0], event)
            for name, value in found.items()
            if value is not None
        }
        reports.append(
            TaskReport(
                task=task.folder,
                score=task.evaluation[0],
                n_clips=1000,
                n_folds=task.folds,
                chance=None if event else 1 / task.n_labels,
                systems=results,
            )
        )
    return reports

from dataclasses import replace

import pytest

from audio_barlow_twins.eval.tasks.metadata import TaskMetadata
from audio_barlow_twins.eval.tasks.suite import PAPER_TASKS, PaperTask, differences


def metadata_of(task: PaperTask) -> TaskMetadata:
    names = ("train", "valid", "test")
    return TaskMetadata(
        name=task.folder,
        task_name=task.folder.split("-")[0],
        embedding_type=task.embedding_type,
        prediction_type=task.prediction_type,
        split_mode=task.split_mode,
        splits=tuple(f"fold{i:02d}" for i in range(task.folds)) if task.folds > 1 else names,
        evaluation=task.evaluation,
        labels=tuple(map(str, range(task.n_labels))),
        sample_duration_s=task.duration_s,
        score_chooses=task.score_chooses,
        postprocessing_grid=task.postprocessing_grid,
        param_grid=task.param_grid,
    )


def test_the_paper_has_18_tasks_five_of_them_in_hear_l() -> None:
    assert len({task.folder for task in PAPER_TASKS}) == len(PAPER_TASKS) == 18
    assert sum(task.hear_l for task in PAPER_TASKS) == 5


@pytest.mark.parametrize("task", PAPER_TASKS, ids=lambda task: task.title)
def test_a_folder_that_is_the_papers_task_differs_in_nothing(task: PaperTask) -> None:
    assert differences(metadata_of(task)) == []


def test_what_differs_from_the_papers_task_is_named() -> None:
    maestro = metadata_of(PAPER_TASKS[-1])
    assert differences(replace(maestro, labels=maestro.labels[:80])) == []
    other = replace(maestro, score_chooses=True, labels=("60",) * 89, splits=maestro.splits[:4])
    said = differences(other)
    assert [line.split(" is ")[0] for line in said] == [
        "number of arrangements", "use_scoring_for_early_stopping", "89 labels, not 88",
    ]  # fmt: skip
    esc50 = metadata_of(PAPER_TASKS[6])
    assert differences(replace(esc50, labels=esc50.labels[:49])) == ["49 labels, not 50"]


def test_a_task_of_ones_own_is_compared_with_nothing() -> None:
    assert differences(replace(metadata_of(PAPER_TASKS[0]), name="my_sounds-v1")) == []

import json
from pathlib import Path

import pytest

from eval.task import Arrangement, Clip, Task, TaskError, find_tasks, read_task


def task_of(split_mode: str, splits: list[str]) -> Task:
    clips = (Clip(path=Path("a.wav"), labels=("x",)),)
    return Task(
        name="toy",
        prediction_type="multiclass",
        split_mode=split_mode,
        evaluation=("top1_acc",),
        labels=("x", "y"),
        splits=dict.fromkeys(splits, clips),
    )


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("mode", ["new_split_kfold", "presplit_kfold"])
def test_each_fold_tests_once_and_the_next_one_validates(mode: str) -> None:
    arrangements = task_of(mode, ["fold02", "fold00", "fold03", "fold01"]).arrangements()
    assert arrangements == (
        Arrangement(train=("fold02", "fold03"), valid="fold01", test="fold00"),
        Arrangement(train=("fold00", "fold03"), valid="fold02", test="fold01"),
        Arrangement(train=("fold00", "fold01"), valid="fold03", test="fold02"),
        Arrangement(train=("fold01", "fold02"), valid="fold00", test="fold03"),
    )


def test_a_fixed_split_has_one_arrangement() -> None:
    arrangements = task_of("trainvaltest", ["train", "valid", "test"]).arrangements()
    assert arrangements == (Arrangement(train=("train",), valid="valid", test="test"),)


def test_a_task_folder_is_read(task_folder: Path) -> None:
    task = read_task(task_folder, 16000)
    assert task.name == "toy-v1-full"
    assert task.labels == ("kick", "snare")
    assert {split: len(clips) for split, clips in task.splits.items()} == {
        "fold00": 8, "fold01": 8, "fold02": 8,
    }  # fmt: skip
    assert task.n_clips == 24
    assert all(clip.path.is_file() for clips in task.splits.values() for clip in clips)
    assert task.targets("fold01").tolist() == [[1, 0]] * 4 + [[0, 1]] * 4


def test_number_labels_are_compared_as_text(task_folder: Path) -> None:
    (task_folder / "labelvocabulary.csv").write_text("idx,label\n0,60\n1,61\n")
    for split in ("fold00", "fold01", "fold02"):
        listing = json.loads((task_folder / f"{split}.json").read_text())
        numbered = {name: [60 + i % 2] for i, name in enumerate(listing)}
        (task_folder / f"{split}.json").write_text(json.dumps(numbered))
    targets = read_task(task_folder, 16000).targets("fold00")
    assert targets.tolist() == [[1, 0], [0, 1]] * 4


def test_a_multilabel_clip_has_any_number_of_labels(task_folder: Path) -> None:
    edit(task_folder / "task_metadata.json", prediction_type="multilabel")
    first, second, *_ = json.loads((task_folder / "fold00.json").read_text())
    edit(task_folder / "fold00.json", **{first: [], second: ["snare", "kick"]})
    targets = read_task(task_folder, 16000).targets("fold00")
    assert targets.tolist()[:3] == [[0, 0], [1, 1], [1, 0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embedding_type": "smell"}, "embedding_type is 'smell'"),
        ({"embedding_type": "event"}, "event task"),
        ({"prediction_type": "regression"}, "prediction_type is 'regression'"),
        ({"split_mode": None}, "split_mode is None"),
        ({"splits": ["fold00", "fold01"]}, "2 folds; at least 3"),
        ({"split_mode": "trainvaltest"}, "wanted train, valid, test"),
        ({"evaluation": []}, "evaluation is"),
        ({"splits": ["fold00", "fold01", "fold07"]}, "fold07: no such folder"),
    ],
)
def test_metadata_that_cannot_be_used_is_refused(
    task_folder: Path, changes: dict[str, object], message: str
) -> None:
    edit(task_folder / "task_metadata.json", **changes)
    with pytest.raises(TaskError, match=message):
        read_task(task_folder, 16000)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["horn"], "label 'horn'"),
        ([], "0 labels"),
        (["kick", "snare"], "2 labels"),
        ("kick", "list"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(
    task_folder: Path, labels: object, message: str
) -> None:
    name = next(iter(json.loads((task_folder / "fold01.json").read_text())))
    edit(task_folder / "fold01.json", **{name: labels})
    with pytest.raises(TaskError, match=message):
        read_task(task_folder, 16000)


def test_a_listed_clip_that_is_missing_is_named(task_folder: Path) -> None:
    edit(task_folder / "fold02.json", **{"ghost.wav": ["kick"]})
    with pytest.raises(TaskError, match=r"fold02/ghost\.wav: missing"):
        read_task(task_folder, 16000)


def test_a_rate_that_the_task_lacks_is_named(task_folder: Path) -> None:
    with pytest.raises(TaskError, match="resample the task to 48000 Hz"):
        read_task(task_folder, 48000)


@pytest.mark.parametrize("rows", ["0,kick\n2,snare\n", "0,kick\n1,kick\n", ""])
def test_a_vocabulary_with_gaps_or_repeats_is_refused(task_folder: Path, rows: str) -> None:
    (task_folder / "labelvocabulary.csv").write_text("idx,label\n" + rows)
    with pytest.raises(TaskError, match="labelvocabulary"):
        read_task(task_folder, 16000)


def test_broken_json_is_named(task_folder: Path) -> None:
    (task_folder / "fold00.json").write_text("{")
    with pytest.raises(TaskError, match=r"fold00\.json: not JSON"):
        read_task(task_folder, 16000)


def test_event_tasks_are_left_out_unless_they_are_named(task_folder: Path) -> None:
    events = task_folder.with_name("maestro")
    events.mkdir()
    (events / "task_metadata.json").write_text('{"embedding_type": "event"}')
    assert find_tasks(task_folder.parent) == [task_folder]
    assert find_tasks(task_folder.parent, ["maestro"]) == [events]


def test_a_folder_without_the_wanted_task_lists_what_it_has(task_folder: Path) -> None:
    with pytest.raises(TaskError, match="no task 'esc50'; its tasks are: toy-v1-full"):
        find_tasks(task_folder.parent, ["esc50"])
    with pytest.raises(TaskError, match="is itself a task folder"):
        find_tasks(task_folder)
    with pytest.raises(TaskError, match="holds no scene task"):
        find_tasks(task_folder / "16000")


def test_hidden_folders_are_not_tasks(task_folder: Path) -> None:
    task_folder.rename(task_folder.with_name(".toy.tmp"))
    with pytest.raises(TaskError, match="holds no scene task"):
        find_tasks(task_folder.parent)

import json
import random
from pathlib import Path

import numpy as np
import pytest

from audio_barlow_twins.eval.tasks.metadata import TaskError
from audio_barlow_twins.eval.tasks.task import Task, find_tasks, read_task
from audio_barlow_twins.eval.tasks.timeline import Event


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_task_folder_is_read(task_folder: Path) -> None:
    task = read_task(task_folder, 16000)
    assert task.name == "toy-v1-full"
    assert task.labels == ("kick", "snare")
    assert {split: len(clips) for split, clips in task.splits.items()} == {
        "fold00": 8, "fold01": 8, "fold02": 8,
    }  # fmt: skip
    assert task.n_clips == 24
    assert all(clip.path.is_file() for clips in task.splits.values() for clip in clips)
    for clip, target in zip(task.splits["fold01"], task.targets("fold01"), strict=True):
        assert target.tolist() == ([1, 0] if clip.path.name.startswith("kick") else [0, 1])


def test_number_labels_are_compared_as_text(task_folder: Path) -> None:
    (task_folder / "labelvocabulary.csv").write_text("idx,label\n0,60\n1,61\n")
    for split in ("fold00", "fold01", "fold02"):
        listing = json.loads((task_folder / f"{split}.json").read_text())
        numbered = {name: [60 + i % 2] for i, name in enumerate(listing)}
        (task_folder / f"{split}.json").write_text(json.dumps(numbered))
    task = read_task(task_folder, 16000)
    assert task.labels == ("60", "61")
    assert {clip.labels for clip in task.splits["fold00"]} == {("60",), ("61",)}


def test_a_multilabel_clip_has_any_number_of_labels(task_folder: Path) -> None:
    edit(task_folder / "task_metadata.json", prediction_type="multilabel")
    first, second, *_ = json.loads((task_folder / "fold00.json").read_text())
    edit(task_folder / "fold00.json", **{first: [], second: ["snare", "kick"]})
    task = read_task(task_folder, 16000)
    names = [clip.path.name for clip in task.splits["fold00"]]
    targets = task.targets("fold00")
    assert targets[names.index(first)].tolist() == [0, 0]
    assert targets[names.index(second)].tolist() == [1, 1]


def test_clips_are_in_the_order_in_which_heareval_lines_them_up(task_folder: Path) -> None:
    listed = {
        split: list(json.loads((task_folder / f"{split}.json").read_text()))
        for split in ("fold00", "fold01", "fold02")
    }
    generator = random.Random(0)  # one for all splits
    for names in listed.values():
        generator.shuffle(names)
    task = read_task(task_folder, 16000)
    assert listed == {
        split: [clip.path.name for clip in clips] for split, clips in task.splits.items()
    }


def as_event_task(task_folder: Path, events: list[dict[str, object]]) -> Task:
    """Make the folder an event task in which every clip has the same events."""
    scores = ["event_onset_200ms_fms"]
    edit(task_folder / "task_metadata.json", embedding_type="event", evaluation=scores,
         prediction_type="multilabel")  # fmt: skip
    for split in ("fold00", "fold01", "fold02"):
        listing = json.loads((task_folder / f"{split}.json").read_text())
        (task_folder / f"{split}.json").write_text(json.dumps(dict.fromkeys(listing, events)))
    return read_task(task_folder, 16000)


def test_an_event_task_has_events_in_milliseconds(task_folder: Path) -> None:
    task = as_event_task(task_folder, [{"label": "snare", "start": 100, "end": 250.5}])
    clip = task.splits["fold01"][0]
    assert clip.events == (Event(label="snare", start_ms=100, end_ms=250.5),)
    marks = task.frame_targets(clip, np.array([0.0, 100.0, 200.0, 300.0]))
    assert marks.tolist() == [[0, 0], [0, 1], [0, 1], [0, 0]]


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"label": "snare", "start": 5}, "wanted label, start and end"),
        ({"label": "snare", "start": 5, "end": 4}, "from 5 to 4 ms"),
        ({"label": "snare", "start": "5", "end": "6"}, "from '5' to '6' ms"),
        ({"label": "horn", "start": 5, "end": 6}, "label 'horn', not in the vocabulary"),
    ],
)
def test_events_that_cannot_be_used_are_refused(
    task_folder: Path, event: dict[str, object], message: str
) -> None:
    with pytest.raises(TaskError, match=message):
        as_event_task(task_folder, [event])


def test_splits_that_are_not_there_are_named(task_folder: Path) -> None:
    edit(task_folder / "task_metadata.json", splits=["fold00", "fold01", "fold07"])
    with pytest.raises(TaskError, match="fold07: no such folder"):
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


def test_all_tasks_are_found_unless_some_are_named(task_folder: Path) -> None:
    events = task_folder.with_name("maestro")
    events.mkdir()
    (events / "task_metadata.json").write_text("{}")
    assert find_tasks(task_folder.parent) == [events, task_folder]
    assert find_tasks(task_folder.parent, ["maestro"]) == [events]


def test_a_folder_without_the_wanted_task_lists_what_it_has(task_folder: Path) -> None:
    with pytest.raises(TaskError, match="no task 'esc50'; its tasks are: toy-v1-full"):
        find_tasks(task_folder.parent, ["esc50"])
    with pytest.raises(TaskError, match="is itself a task folder"):
        find_tasks(task_folder)
    with pytest.raises(TaskError, match="holds no task"):
        find_tasks(task_folder / "16000")


def test_hidden_folders_are_not_tasks(task_folder: Path) -> None:
    task_folder.rename(task_folder.with_name(".toy.tmp"))
    with pytest.raises(TaskError, match="holds no task"):
        find_tasks(task_folder.parent)

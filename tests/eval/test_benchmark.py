import json
from pathlib import Path

import numpy as np
import pytest

from eval.benchmark import embed_task, score_systems
from eval.hear import HearModel
from eval.protocol import FASTER_GRID, Protocol
from eval.task import Task, read_task

SMOKE = Protocol(name="smoke", grid=FASTER_GRID, grid_points=2)


@pytest.fixture
def event_task(task_folder: Path) -> Task:
    """Make the toy an event task: in every clip, its label sounds from 200 to 600 ms."""
    about = json.loads((task_folder / "task_metadata.json").read_text())
    about |= {"embedding_type": "event", "prediction_type": "multilabel",
              "evaluation": ["event_onset_200ms_fms", "segment_1s_er"]}  # fmt: skip
    (task_folder / "task_metadata.json").write_text(json.dumps(about))
    for split in about["splits"]:
        listing = json.loads((task_folder / f"{split}.json").read_text())
        events = {
            name: [{"label": label, "start": 200, "end": 600}] for name, (label,) in listing.items()
        }
        (task_folder / f"{split}.json").write_text(json.dumps(events))
    return read_task(task_folder, 16000)


def test_event_clips_are_embedded_and_labelled_at_every_timestamp(
    event_task: Task, hear_model: HearModel
) -> None:
    splits = embed_task(event_task, {"one": hear_model}, lambda n: None)["one"]
    embedded = splits["fold01"]
    assert embedded.embeddings.shape == (8 * 21, hear_model.timestamp_embedding_size)
    for clip, timeline, targets in zip(
        event_task.splits["fold01"], embedded.timelines, embedded.targets.split(21), strict=True
    ):
        np.testing.assert_array_equal(timeline.timestamps_ms, 50 * np.arange(21))
        label = event_task.labels.index(clip.events[0].label)
        assert targets.nonzero().tolist() == [[i, label] for i in range(4, 13)]


def test_an_event_task_is_scored_without_a_level_of_chance(
    event_task: Task, hear_model: HearModel
) -> None:
    report = score_systems(event_task, {"one": hear_model}, SMOKE)
    assert (report.score, report.chance, report.n_folds) == ("event_onset_200ms_fms", None, 3)
    (run,) = report.systems["one"].runs
    assert len(run.tried) == 2
    assert all("test_segment_1s_er_error_rate" in fold.test for fold in run.folds)


def test_a_scene_task_is_scored_beside_its_level_of_chance(
    task_folder: Path, hear_model: HearModel
) -> None:
    report = score_systems(read_task(task_folder, 16000), {"one": hear_model}, SMOKE)
    assert (report.score, report.chance, report.n_clips) == ("top1_acc", 0.5, 24)
    assert report.systems["one"].protocol == "smoke"

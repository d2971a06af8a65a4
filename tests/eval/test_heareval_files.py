import json
import pickle
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from heareval_files import read_embedded

from audio_barlow_twins.eval.tasks.metadata import TaskError
from audio_barlow_twins.eval.tasks.task import read_metadata

TASKS = Path(__file__).parent / "oracle" / "tasks"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    return shutil.copytree(TASKS / "silent", tmp_path / "silent")


def test_numbers_are_labels_too() -> None:
    folder = TASKS / "pitch"
    embedded = read_embedded(folder, read_metadata(folder))["valid"]
    listed = json.loads((folder / "valid.json").read_text())
    assert [40 + i for i in embedded.targets.argmax(dim=1).tolist()] == [
        label for (label,) in listed.values()
    ]


def test_timestamps_are_put_together_by_clip(stored: Path) -> None:
    embedded = read_embedded(stored, read_metadata(stored))["train"]
    assert embedded.embeddings.shape == (600, 16)
    assert [len(timeline.timestamps_ms) for timeline in embedded.timelines] == [200] * 3
    listed = json.loads((stored / "train.json").read_text())
    assert [len(timeline.events) for timeline in embedded.timelines] == [
        len(events) for events in listed.values()
    ]


def test_a_pickle_of_anything_but_lists_is_refused(stored: Path) -> None:
    (stored / "valid.target-labels.pkl").write_bytes(pickle.dumps(Counter("ab")))
    with pytest.raises(TaskError, match=r"valid\.target-labels\.pkl: holds a collections\.Counter"):
        read_embedded(stored, read_metadata(stored))


@pytest.mark.parametrize("values", [np.zeros(5), np.full(400 * 16, np.nan)])
def test_embeddings_that_are_cut_or_not_finite_are_refused(
    stored: Path, values: np.ndarray
) -> None:
    values.astype("<f4").tofile(stored / "valid.embeddings.npy")
    with pytest.raises(TaskError, match="wanted 400 x 16, all finite"):
        read_embedded(stored, read_metadata(stored))

"""A checkpoint with random weights and a tiny HEAR task of real sounds."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from demo_sounds import DEMO, demo_wave


def write_task(
    folder: Path, labels: tuple[str, ...] = ("kick", "snare"), per_fold: int = 4
) -> Path:
    """Write a 3-fold scene task whose labels are folders of the demo sounds."""
    folds = ["fold00", "fold01", "fold02"]
    metadata = {
        "task_name": "toy",
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "new_split_kfold",
        "splits": folds,
        "sample_duration": 1.0,
        "evaluation": ["top1_acc", "mAP", "d_prime"],
    }
    folder.mkdir(parents=True)
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    rows = "".join(f"{i},{label}\n" for i, label in enumerate(labels))
    (folder / "labelvocabulary.csv").write_text("idx,label\n" + rows)
    for i, fold in enumerate(folds):
        listing = {}
        (folder / "16000" / fold).mkdir(parents=True)
        for label in labels:
            sounds = sorted((DEMO / label).glob("*.opus"))[i * per_fold : (i + 1) * per_fold]
            assert len(sounds) == per_fold
            for sound in sounds:
                name = f"{label}_{sound.stem}.wav"
                soundfile.write(folder / "16000" / fold / name, demo_wave(sound), 16000)
                listing[name] = [label]
        (folder / f"{fold}.json").write_text(json.dumps(listing))
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the cache of embeddings out of the home folder, of the commands that tests run too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def task_folder(tmp_path: Path) -> Path:
    return write_task(tmp_path / "tasks" / "toy-v1-full")

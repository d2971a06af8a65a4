"""A checkpoint with random weights and a tiny HEAR task of real sounds."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from audio_barlow_twins.eval.hear import load_model
from audio_barlow_twins.model.checkpoint import Checkpoint, save_checkpoint
from audio_barlow_twins.model.embedder import Embedder
from audio_barlow_twins.model.encoders import build_encoder
from audio_barlow_twins.shards.stored.front_end import FrontEnd

DEMO = Path(__file__).parents[2] / "ingest" / "sources" / "demo" / "audio"
SIZES: dict[str, int | float] = {"width": 64, "channels": 8}


def demo_wave(path: Path, seconds: float = 1.0) -> np.ndarray:
    """Read a demo sound as float32 at 16 kHz, cut or padded with zeros to `seconds`."""
    wave, rate = soundfile.read(path, dtype="float32")
    wave = soxr.resample(wave, rate, 16000)[: round(seconds * 16000)]
    return np.pad(wave, (0, round(seconds * 16000) - len(wave)))


def demo_batch(count: int) -> torch.Tensor:
    """Read some different demo sounds, float32 [count, 16000]."""
    files = sorted(DEMO.glob("*/*.opus"))
    waves = [demo_wave(files[i * len(files) // count]) for i in range(count)]
    return torch.from_numpy(np.stack(waves))


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


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        encoder = build_encoder("audiontt", SIZES)
    return Checkpoint(
        encoder="audiontt",
        sizes=SIZES,
        state=encoder.state_dict(),
        front_end=FrontEnd().parameters(),
        mean=-4.95,
        std=5.855,
        fingerprint="f" * 32,
        step=3,
        training=None,
    )


@pytest.fixture(scope="session")
def checkpoint_path(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "encoder.pt"
    save_checkpoint(path, checkpoint)
    return path


@pytest.fixture(scope="session")
def hear_model(checkpoint_path: Path) -> Embedder:
    return load_model(str(checkpoint_path), device="cpu")


@pytest.fixture(scope="session")
def sounds() -> torch.Tensor:
    return demo_batch(4)


@pytest.fixture
def task_folder(tmp_path: Path) -> Path:
    return write_task(tmp_path / "tasks" / "toy-v1-full")

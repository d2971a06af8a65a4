"""A small task as the archives hold them: 48 kHz, 16 bits."""

import json
from pathlib import Path

import numpy as np
import soundfile

pass


RATE = 48000


def write_archive_task(folder: Path, per_split: int = 3, seconds: float = 0.5) -> Path:
    """Write a task of tones and noise at 48000 Hz, as the archives hold them: 16 bits."""
    rng = np.random.default_rng(0)
    metadata = {
        "task_name": "tones",
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "trainvaltest",
        "splits": [*SPLITS],
        "sample_duration": seconds,
        "evaluation": ["top1_acc"],
    }
    folder.mkdir(parents=True)
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    (folder / "labelvocabulary.csv").write_text("idx,label\n0,noise\n1,tone\n")
    for split in SPLITS:
        (folder / str(RATE) / split).mkdir(parents=True)
        listing = {f"{split}{i}.wav": ["tone" if i % 2 else "noise"] for i in range(per_split)}
        (folder / f"{split}.json").write_text(json.dumps(listing))
        for name in listing:
            wave = rng.normal(0, 0.1, round(seconds * RATE))
            soundfile.write(folder / str(RATE) / split / name, wave, RATE, "PCM_16")
    return folder


SPLITS = ("train", "valid", "test")

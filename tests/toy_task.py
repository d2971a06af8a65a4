"""A tiny HEAR task of demo sounds, on which probes are trained for a moment only."""

import json
from pathlib import Path

import numpy as np
import soundfile

SOUNDS = Path(__file__).parents[1] / "ingest" / "sources" / "demo" / "audio"
FOLDS = ("fold00", "fold01", "fold02")
LABELS = ("kick", "snare")
PER_FOLD = 3
METADATA = {
    "task_name": "toy",
    "embedding_type": "scene",
    "prediction_type": "multiclass",
    "split_mode": "new_split_kfold",
    "splits": list(FOLDS),
    "sample_duration": None,
    "evaluation": ["top1_acc", "mAP"],
    "evaluation_params": {"task_specific_param_grid": {"max_epochs": [6]}},
}


def make_events(folder: Path, evaluation: list[str], start_ms: float, end_ms: float) -> None:
    """Make a scene task an event task: in every clip its label sounds for a while."""
    about = json.loads((folder / "task_metadata.json").read_text())
    about |= {"embedding_type": "event", "prediction_type": "multilabel", "evaluation": evaluation}
    (folder / "task_metadata.json").write_text(json.dumps(about))
    for split in about["splits"]:
        listing = json.loads((folder / f"{split}.json").read_text())
        events = {
            name: [{"label": label, "start": start_ms, "end": end_ms}]
            for name, (label,) in listing.items()
        }
        (folder / f"{split}.json").write_text(json.dumps(events))


def write_toy_task(folder: Path, waves: dict[str, np.ndarray]) -> Path:
    """Write a 3-fold task that tells kicks from snares.

    Args:
        folder: to make.
        waves: demo clips by name, int16 at 16 kHz.
    """
    for fold in FOLDS:
        (folder / "16000" / fold).mkdir(parents=True)
    (folder / "task_metadata.json").write_text(json.dumps(METADATA))
    rows = "".join(f"{i},{label}\n" for i, label in enumerate(LABELS))
    (folder / "labelvocabulary.csv").write_text("idx,label\n" + rows)
    for i, fold in enumerate(FOLDS):
        listing = {}
        for label in LABELS:
            names = sorted(path.stem for path in (SOUNDS / label).glob("*.opus"))
            for name in names[i * PER_FOLD : (i + 1) * PER_FOLD]:
                soundfile.write(folder / "16000" / fold / f"{name}.wav", waves[name], 16000)
                listing[f"{name}.wav"] = [label]
        (folder / f"{fold}.json").write_text(json.dumps(listing))
    return folder

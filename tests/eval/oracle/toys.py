"""Toy tasks in the form of heareval's embedding folders: every kind of task that HEAR has."""

import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FIXED = ("train", "valid", "test")
FRAME_MS = 50.0


@dataclass(frozen=True, kw_only=True)
class Toy:
    """What a toy task looks like."""

    evaluation: tuple[str, ...]
    splits: tuple[str, ...] = FIXED
    rows: tuple[int, ...]
    """Clips of each split; of event tasks, too."""
    labels: tuple[Any, ...]
    split_mode: str = "trainvaltest"
    prediction_type: str = "multiclass"
    embedding_type: str = "scene"
    task_name: str = "toy"
    noise: float = 2.0
    """Deviation of the embeddings around their labels' directions."""
    d: int = 16
    frames: int = 200
    """Timestamps of a clip."""
    settings: dict[str, Any] = field(default_factory=dict)
    """More of `task_metadata.json`."""


def folds(n: int) -> tuple[str, ...]:
    """Name n folds."""
    return tuple(f"fold{i:02d}" for i in range(n))


def hyperparameters(**values: Any) -> dict[str, Any]:
    """Set some for a task, as its metadata can."""
    return {"task_specific_param_grid": {name: [value] for name, value in values.items()}}


CLIP_SCORES = ("top1_acc", "mAP", "d_prime", "aucroc")
SMALL = {"evaluation_params": hyperparameters(hidden_dim=64)}
WORDS = ("bell", "cough", "drum", "frog", "horn", "kick")
TOYS = {
    # heareval's own grid, nothing made smaller.
    "scene": Toy(evaluation=CLIP_SCORES, rows=(90, 60, 60), labels=WORDS),
    "folds": Toy(evaluation=CLIP_SCORES, splits=folds(5), rows=(30,) * 5, labels=WORDS,
                 split_mode="new_split_kfold", settings=SMALL),
    "multilabel": Toy(evaluation=("mAP", "d_prime", "aucroc", "top1_acc"), splits=folds(3),
                      rows=(70, 60, 60), labels=WORDS, split_mode="presplit_kfold",
                      prediction_type="multilabel", settings=SMALL),
    # Two batches an epoch, the second one short; labels that are numbers.
    "pitch": Toy(evaluation=("pitch_acc", "chroma_acc"), rows=(1100, 150, 150),
                 labels=tuple(range(40, 65)), d=12, settings=SMALL),
    # The name sets the epochs between validations, and the default post-processing is searched.
    "dcase": Toy(
        evaluation=("event_onset_200ms_fms", "segment_1s_er"),
        rows=(6, 4, 4),
        labels=WORDS,
        prediction_type="multilabel",
        embedding_type="event",
        task_name="dcase2016_task2",
        noise=1.0,
        settings=SMALL,
    ),
    # Chosen by the loss, validated after every epoch, post-processing fixed.
    "maestro": Toy(
        evaluation=("event_onset_50ms_fms", "event_onset_offset_50ms_20perc_fms"),
        splits=folds(3), rows=(3, 3, 3), labels=tuple(range(60, 68)), noise=1.5,
        split_mode="new_split_kfold", prediction_type="multilabel", embedding_type="event",
        settings={
            "use_scoring_for_early_stopping": False,
            "evaluation_params": {
                **hyperparameters(hidden_dim=64, max_epochs=50, check_val_every_n_epoch=1),
                "event_postprocessing_grid": {"median_filter_ms": [150], "min_duration": [50]},
            },
        }),
    # Chosen by a score that is best when low.
    "errors": Toy(evaluation=("segment_1s_er", "event_onset_offset_50ms_20perc_fms"),
                  rows=(5, 3, 3), labels=WORDS[:3], noise=1.5, prediction_type="multilabel",
                  embedding_type="event", settings=SMALL),
    # Noise, from which training learns to find nothing: every F-measure is NaN.
    "silent": Toy(
        evaluation=("event_onset_200ms_fms",),
        rows=(3, 2, 2),
        labels=WORDS,
        noise=50.0,
        prediction_type="multilabel",
        embedding_type="event",
        settings={"evaluation_params": hyperparameters(hidden_dim=64, lr=3.2e-3, batch_size=32)},
    ),
}  # fmt: skip


def write_toy(folder: Path, toy: Toy) -> None:
    """Write a toy task's metadata, vocabulary and embeddings."""
    rng = np.random.default_rng(sum(map(ord, folder.name)))
    folder.mkdir(parents=True)
    metadata = {
        "task_name": toy.task_name,
        "embedding_type": toy.embedding_type,
        "prediction_type": toy.prediction_type,
        "split_mode": toy.split_mode,
        "splits": toy.splits,
        "sample_duration": toy.frames * FRAME_MS / 1000,
        "evaluation": toy.evaluation,
        **toy.settings,
    }
    (folder / "task_metadata.json").write_text(json.dumps(metadata, indent=1) + "\n")
    rows = "".join(f"{i},{label}\n" for i, label in enumerate(toy.labels))
    (folder / "labelvocabulary.csv").write_text("idx,label\n" + rows)
    directions = rng.standard_normal((len(toy.labels), toy.d))
    for split, n_clips in zip(toy.splits, toy.rows, strict=True):
        write_split(folder, split, n_clips, toy, directions, rng)


def write_split(
    folder: Path,
    split: str,
    n_clips: int,
    toy: Toy,
    directions: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Write embeddings [N, D] that point where their labels do, but for noise."""
    listing: dict[str, Any] = {}
    frames: list[tuple[str, float]] = []
    rows: list[list[Any]] = []
    for clip in range(n_clips):
        name = f"{split}_{clip}.wav"
        if toy.embedding_type == "event":
            listing[name] = make_events(toy, rng)
            times = [FRAME_MS * i for i in range(toy.frames)]
            frames += [(f"{split}/{name}", time) for time in times]
            rows += [
                [e["label"] for e in listing[name] if e["start"] <= time < e["end"] + 0.0001]
                for time in times
            ]
        else:
            listing[name] = make_labels(toy, clip, rng)
            rows.append(listing[name])
    marks = np.array([[label in row for label in toy.labels] for row in rows], dtype=float)
    values = marks @ directions + toy.noise * rng.standard_normal((len(rows), toy.d))
    (folder / f"{split}.json").write_text(json.dumps(listing))
    # Float16 values keep the arithmetic of making them out of the fixtures.
    values.astype(np.float16).astype("<f4").tofile(folder / f"{split}.embeddings.npy")
    (folder / f"{split}.embedding-dimensions.json").write_text(json.dumps(values.shape))
    with (folder / f"{split}.target-labels.pkl").open("wb") as file:
        pickle.dump(rows, file)
    if frames:
        (folder / f"{split}.filename-timestamps.json").write_text(json.dumps(frames))


def make_labels(toy: Toy, clip: int, rng: np.random.Generator) -> list[Any]:
    """Draw the labels of a clip: one, in turn, or each with a chance of a quarter."""
    if toy.prediction_type == "multiclass":
        return [toy.labels[clip % len(toy.labels)]]
    drawn = [label for label in toy.labels if rng.random() < 0.25]
    return [toy.labels[clip % len(toy.labels)]] if clip < 2 * len(toy.labels) else drawn


def make_events(toy: Toy, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Draw some events, which may overlap."""
    clip_ms = toy.frames * FRAME_MS
    events = []
    for _ in range(rng.poisson(clip_ms / 800) + 1):
        start = round(rng.uniform(0, 0.9 * clip_ms), 1)
        end = min(clip_ms, round(start + rng.uniform(100, 1500), 1))
        label = toy.labels[rng.integers(len(toy.labels))]
        events.append({"label": label, "start": start, "end": end})
    return events

"""Embeddings as heareval 2021.1.3 stores them: those of any HEAR module can be scored.

A folder `<embeddings>/<module>/<task>/` holds the task's metadata, vocabulary and `<split>.json`,
and for each split `<split>.embeddings.npy` (bare float32, no header),
`<split>.embedding-dimensions.json`, `<split>.target-labels.pkl` and, in event tasks,
`<split>.filename-timestamps.json`.
"""

import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audio_barlow_twins.eval.embed.embedded import Embedded
from audio_barlow_twins.eval.tasks.metadata import TaskError, TaskMetadata
from audio_barlow_twins.eval.tasks.task import read_events, read_json
from audio_barlow_twins.eval.tasks.timeline import Timeline


class _ListsOnly(pickle.Unpickler):
    """Reads lists, text and numbers; a file from elsewhere must not run code."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise pickle.UnpicklingError(f"holds a {module_name}.{global_name}; wanted lists of labels")


def read_embedded(
    folder: Path, metadata: TaskMetadata, device: torch.device | str = "cpu"
) -> dict[str, Embedded]:
    """Read all splits of an embedding folder, rows in its order."""
    return {split: read_split(folder, split, metadata, device) for split in metadata.splits}


def read_split(
    folder: Path, split: str, metadata: TaskMetadata, device: torch.device | str
) -> Embedded:
    """Read one split."""
    shape = json.loads((folder / f"{split}.embedding-dimensions.json").read_text())
    values = np.fromfile(folder / f"{split}.embeddings.npy", dtype="<f4")
    if len(values) != shape[0] * shape[1] or not np.isfinite(values).all():
        raise TaskError(
            f"{folder / split}.embeddings.npy: holds {len(values)} numbers; wanted "
            f"{shape[0]} x {shape[1]}, all finite"
        )
    rows = read_labels(folder / f"{split}.target-labels.pkl")
    index = {label: i for i, label in enumerate(metadata.labels)}
    targets = np.zeros((len(rows), len(index)), dtype=np.float32)
    for row, labels in enumerate(rows):
        targets[row, [index[str(label)] for label in labels]] = 1
    return Embedded(
        torch.from_numpy(values.reshape(shape)).to(device),
        torch.from_numpy(targets).to(device),
        read_timelines(folder, split) if metadata.is_event else (),
    )


def read_labels(path: Path) -> list[list[Any]]:
    """Read the labels of every row."""
    try:
        with path.open("rb") as file:
            return _ListsOnly(file).load()
    except pickle.UnpicklingError as error:
        raise TaskError(f"{path}: {error}") from error


def read_timelines(folder: Path, split: str) -> tuple[Timeline, ...]:
    """Read the timestamps of every clip, and the events that are to be found in it."""
    frames = json.loads((folder / f"{split}.filename-timestamps.json").read_text())
    listed = read_json(folder / f"{split}.json")
    timelines = []
    for file, group in itertools.groupby(frames, key=lambda frame: frame[0]):
        clip = Path(file).name
        times = np.array([timestamp for _, timestamp in group], dtype=np.float64)
        events = read_events(listed.get(clip, []), f"{folder / split}.json: {clip}")
        timelines.append(Timeline(timestamps_ms=times, events=events))
    return tuple(timelines)

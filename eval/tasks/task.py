"""HEAR tasks on disk: their clips, labels and splits.

A task folder, as hear-preprocess writes it, holds `task_metadata.json`, `labelvocabulary.csv`, and
for every split `<split>.json` and the clips in `<sample rate>/<split>/`.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .metadata import Arrangement, TaskError, TaskMetadata, parse_metadata
from .order import embedding_order
from .timeline import Event, active_labels

METADATA_FILE = "task_metadata.json"
VOCABULARY_FILE = "labelvocabulary.csv"


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One labelled sound file of a task."""

    path: Path
    labels: tuple[str, ...] = ()
    """In scene tasks, for the whole clip."""
    events: tuple[Event, ...] = ()
    """In event tasks."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task and its clips, in each split in heareval's order, on which batches depend."""

    metadata: TaskMetadata
    splits: Mapping[str, tuple[Clip, ...]]

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def labels(self) -> tuple[str, ...]:
        return self.metadata.labels

    @property
    def n_clips(self) -> int:
        return sum(map(len, self.splits.values()))

    def targets(self, split: str) -> np.ndarray:
        """Return the labels of a scene split, float32 0 or 1 [clips, labels]."""
        index = {label: i for i, label in enumerate(self.labels)}
        marks = np.zeros((len(self.splits[split]), len(self.labels)), dtype=np.float32)
        for row, clip in enumerate(self.splits[split]):
            marks[row, [index[label] for label in clip.labels]] = 1
        return marks

    def frame_targets(self, clip: Clip, timestamps_ms: np.ndarray) -> np.ndarray:
        """Return the labels of an event task's clip, float32 0 or 1 [timestamps, labels]."""
        return active_labels(clip.events, timestamps_ms, self.labels)

    def arrangements(self) -> tuple[Arrangement, ...]:
        return self.metadata.arrangements()


def find_tasks(tasks_dir: Path, wanted: Sequence[str] = ()) -> list[Path]:
    """List task folders sorted by name, all or the wanted ones."""
    if not tasks_dir.is_dir():
        raise TaskError(f"{tasks_dir}: no such folder; name the one that holds the task folders")
    if (tasks_dir / METADATA_FILE).is_file():
        raise TaskError(f"{tasks_dir}: is itself a task folder; name the folder above it")
    folders = sorted(path.parent for path in tasks_dir.glob(f"[!.]*/{METADATA_FILE}"))
    present = [folder.name for folder in folders]
    if unknown := [name for name in wanted if name not in present]:
        held = ", ".join(present) or "none"
        raise TaskError(f"{tasks_dir}: has no task {unknown[0]!r}; its tasks are: {held}")
    if not folders:
        raise TaskError(f"{tasks_dir}: holds no task (a folder with {METADATA_FILE})")
    return [folder for folder in folders if not wanted or folder.name in wanted]


def read_metadata(folder: Path) -> TaskMetadata:
    """Read and check a task's metadata and vocabulary."""
    where = folder / METADATA_FILE
    labels = read_vocabulary(folder / VOCABULARY_FILE)
    return parse_metadata(read_json(where), folder.name, labels, str(where))


def read_task(folder: Path, sample_rate: int) -> Task:
    """Read and check a task with its clips at a rate in Hz; their audio is not opened."""
    metadata = read_metadata(folder)
    splits = {name: read_split(folder, name, sample_rate, metadata) for name in metadata.splits}
    return Task(metadata=metadata, splits=embedding_order(splits))


def read_split(
    folder: Path, split: str, sample_rate: int, metadata: TaskMetadata
) -> tuple[Clip, ...]:
    """Read the clips of a split; check their labels and that their files exist."""
    listing = folder / f"{split}.json"
    audio = folder / str(sample_rate) / split
    if not audio.is_dir():
        raise TaskError(f"{audio}: no such folder; resample the task to {sample_rate} Hz")
    present = {file.name for file in audio.iterdir()}
    clips = []
    for name, raw in read_json(listing).items():
        clips.append(read_labels(audio / name, raw, metadata, listing))
        if name not in present:
            raise TaskError(f"{audio / name}: missing, though {listing.name} lists it")
    if not clips:
        raise TaskError(f"{listing}: lists no clips")
    return tuple(clips)


def read_labels(path: Path, raw: Any, metadata: TaskMetadata, listing: Path) -> Clip:
    """Parse and check the labels or events of a clip in the listing of its split."""
    name = path.name
    if not isinstance(raw, list):
        raise TaskError(f"{listing}: labels of {name} are {raw!r}; wanted a list")
    if metadata.is_event:
        clip = Clip(path=path, events=read_events(raw, f"{listing}: {name}"))
    else:
        clip = Clip(path=path, labels=tuple(map(str, raw)))
    used = {*clip.labels, *(event.label for event in clip.events)}
    if unknown := sorted(used - {*metadata.labels}):
        raise TaskError(f"{listing}: {name} has label {unknown[0]!r}, not in the vocabulary")
    if not metadata.multilabel and len(clip.labels) != 1:
        raise TaskError(
            f"{listing}: {name} has {len(clip.labels)} labels; multiclass wants exactly one"
        )
    return clip


def read_events(raw: Sequence[Any], where: str) -> tuple[Event, ...]:
    events = []
    for event in raw:
        if not isinstance(event, Mapping) or not {"label", "start", "end"} <= event.keys():
            raise TaskError(f"{where}: has event {event!r}; wanted label, start and end")
        start_ms, end_ms = event["start"], event["end"]
        if not all(isinstance(t, int | float) for t in (start_ms, end_ms)) or start_ms > end_ms:
            raise TaskError(f"{where}: has an event from {start_ms!r} to {end_ms!r} ms")
        events.append(Event(label=str(event["label"]), start_ms=start_ms, end_ms=end_ms))
    return tuple(events)


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """Return the labels of `idx,label` rows by index; indices must run from 0 without gaps."""
    if not path.is_file():
        raise TaskError(f"{path}: missing")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"idx", "label"} <= rows[0].keys():
        raise TaskError(f"{path}: wanted a header `idx,label` and at least one row")
    by_index = {row["idx"]: row["label"] for row in rows}
    wanted = [str(i) for i in range(len(rows))]
    if set(by_index) != set(wanted) or len(set(by_index.values())) != len(rows):
        raise TaskError(f"{path}: indices must be 0 to {len(rows) - 1}, each label once")
    return tuple(by_index[i] for i in wanted)


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TaskError(f"{path}: {error.strerror}; is this a HEAR task folder?") from error
    except ValueError as error:
        raise TaskError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise TaskError(f"{path}: wanted a JSON object, got a {type(content).__name__}")
    return content

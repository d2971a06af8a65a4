"""HEAR tasks on disk: what the clips are, how they are labelled, which of them train and test.

A task folder, as hear-preprocess writes it, holds `task_metadata.json`, `labelvocabulary.csv`, and
for every split `<split>.json` and the clips in `<sample rate>/<split>/`.
"""

import csv
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards.cli import UserError

log = logging.getLogger(__name__)

METADATA_FILE = "task_metadata.json"
PREDICTION_TYPES = ("multiclass", "multilabel")
FOLD_MODES = ("new_split_kfold", "presplit_kfold")
SPLIT_MODES = ("trainvaltest", *FOLD_MODES)


class TaskError(UserError):
    """A task folder cannot be used as it is."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One labelled sound file of a task."""

    path: Path
    labels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """Which splits train, choose and test one probe."""

    train: tuple[str, ...]
    valid: str
    test: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """A scene task: every clip has one class (multiclass) or any number of them (multilabel)."""

    name: str
    """Name of the folder, with version and mode."""
    prediction_type: str
    split_mode: str
    evaluation: tuple[str, ...]
    """Names of the scores; the first one is reported and chooses the probe."""
    labels: tuple[str, ...]
    """Vocabulary in the order of its indices."""
    splits: Mapping[str, tuple[Clip, ...]]
    """Clips of each split, in the order of its JSON file."""

    @property
    def n_clips(self) -> int:
        """Number of clips in all splits."""
        return sum(map(len, self.splits.values()))

    def targets(self, split: str) -> np.ndarray:
        """Mark the labels of each clip of a split, float32 0 or 1 [clips, labels]."""
        index = {label: i for i, label in enumerate(self.labels)}
        marks = np.zeros((len(self.splits[split]), len(self.labels)), dtype=np.float32)
        for row, clip in enumerate(self.splits[split]):
            marks[row, [index[label] for label in clip.labels]] = 1
        return marks

    def arrangements(self) -> tuple[Arrangement, ...]:
        """List the probes to train, as heareval arranges them.

        Of k sorted folds, fold i tests, fold i + 1 (cyclically) validates, the others train.
        """
        if self.split_mode not in FOLD_MODES:
            return (Arrangement(train=("train",), valid="valid", test="test"),)
        folds = sorted(self.splits)
        arranged = []
        for i, test in enumerate(folds):
            valid = folds[(i + 1) % len(folds)]
            train = tuple(fold for fold in folds if fold not in (test, valid))
            arranged.append(Arrangement(train=train, valid=valid, test=test))
        return tuple(arranged)


def find_tasks(tasks_dir: Path, wanted: Sequence[str] = ()) -> list[Path]:
    """List task folders of scene tasks by name, or just the wanted ones of them."""
    if not tasks_dir.is_dir():
        raise TaskError(f"{tasks_dir}: no such folder; name the one that holds the task folders")
    if (tasks_dir / METADATA_FILE).is_file():
        raise TaskError(f"{tasks_dir}: is itself a task folder; name the folder above it")
    folders = sorted(path.parent for path in tasks_dir.glob(f"[!.]*/{METADATA_FILE}"))
    present = [folder.name for folder in folders]
    if unknown := [name for name in wanted if name not in present]:
        held = ", ".join(present) or "none"
        raise TaskError(f"{tasks_dir}: has no task {unknown[0]!r}; its tasks are: {held}")
    if wanted:
        return [folder for folder in folders if folder.name in wanted]
    found = [folder for folder in folders if read_metadata(folder)["embedding_type"] == "scene"]
    if not found:
        raise TaskError(f"{tasks_dir}: holds no scene task (a folder with {METADATA_FILE})")
    for skipped in sorted({*folders} - {*found}):
        log.info("%s: skipped, timestamp (event) tasks cannot be scored yet", skipped.name)
    return found


def read_metadata(folder: Path) -> dict[str, Any]:
    """Read a task's metadata and check the keys that every kind of task has."""
    metadata = read_json(folder / METADATA_FILE)
    kind = metadata.get("embedding_type")
    if kind not in ("scene", "event"):
        raise TaskError(
            f"{folder / METADATA_FILE}: embedding_type is {kind!r}; wanted 'scene' or 'event'"
        )
    return metadata


def read_task(folder: Path, sample_rate: int) -> Task:
    """Read and check a scene task; the audio itself is not opened.

    Args:
        folder: the task folder.
        sample_rate: which of its `<sample rate>` folders to use, in Hz.
    """
    metadata = read_metadata(folder)
    where = folder / METADATA_FILE
    if metadata["embedding_type"] != "scene":
        raise TaskError(f"{where}: is an event task; only scene tasks can be scored so far")
    prediction_type = one_of(metadata, "prediction_type", PREDICTION_TYPES, where)
    split_mode = one_of(metadata, "split_mode", SPLIT_MODES, where)
    evaluation = names(metadata, "evaluation", where)
    splits = names(metadata, "splits", where)
    if split_mode in FOLD_MODES and len(splits) < 3:
        raise TaskError(f"{where}: {len(splits)} folds; at least 3 are needed")
    if split_mode == "trainvaltest" and set(splits) != {"train", "valid", "test"}:
        raise TaskError(f"{where}: splits are {', '.join(splits)}; wanted train, valid, test")
    labels = read_vocabulary(folder / "labelvocabulary.csv")
    exactly_one = prediction_type == "multiclass"
    return Task(
        name=folder.name,
        prediction_type=prediction_type,
        split_mode=split_mode,
        evaluation=evaluation,
        labels=labels,
        splits={s: read_split(folder, s, sample_rate, labels, exactly_one) for s in splits},
    )


def read_split(
    folder: Path, split: str, sample_rate: int, labels: Sequence[str], exactly_one: bool
) -> tuple[Clip, ...]:
    """Read the clips of one split and check their labels and that their files are there."""
    listing = folder / f"{split}.json"
    audio = folder / str(sample_rate) / split
    if not audio.is_dir():
        raise TaskError(f"{audio}: no such folder; resample the task to {sample_rate} Hz")
    present = {file.name for file in audio.iterdir()}
    vocabulary = set(labels)
    clips = []
    for name, raw in read_json(listing).items():
        if not isinstance(raw, list):
            raise TaskError(f"{listing}: labels of {name} are {raw!r}; wanted a list")
        clip = Clip(path=audio / name, labels=tuple(map(str, raw)))
        if unknown := sorted(set(clip.labels) - vocabulary):
            raise TaskError(f"{listing}: {name} has label {unknown[0]!r}, not in the vocabulary")
        if exactly_one and len(clip.labels) != 1:
            raise TaskError(
                f"{listing}: {name} has {len(clip.labels)} labels; multiclass wants exactly one"
            )
        if name not in present:
            raise TaskError(f"{clip.path}: missing, though {listing.name} lists it")
        clips.append(clip)
    if not clips:
        raise TaskError(f"{listing}: lists no clips")
    return tuple(clips)


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """Read `idx,label` rows; indices must run from 0 without gaps."""
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
    """Read a JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TaskError(f"{path}: {error.strerror}; is this a HEAR task folder?") from error
    except ValueError as error:
        raise TaskError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise TaskError(f"{path}: wanted a JSON object, got a {type(content).__name__}")
    return content


def one_of(metadata: Mapping[str, Any], key: str, choices: Sequence[str], where: Path) -> str:
    """Read a metadata value that must be one of a few words."""
    value = metadata.get(key)
    if not isinstance(value, str) or value not in choices:
        raise TaskError(f"{where}: {key} is {value!r}; wanted one of {', '.join(choices)}")
    return value


def names(metadata: Mapping[str, Any], key: str, where: Path) -> tuple[str, ...]:
    """Read a metadata value that must be a list of words, at least one."""
    value = metadata.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise TaskError(f"{where}: {key} is {value!r}; wanted a list of names")
    return tuple(value)

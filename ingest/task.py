"""Write labelled clips as a task in the folder layout of HEAR 2021."""

import csv
import json
import shutil
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.place import is_remote
from audio_barlow_twins.shards.stored.form import wave_form
from audio_barlow_twins.shards.stored.shardset import open_shards
from audio_barlow_twins.shards.stored.sidecar import Row, read_clip, read_rows


@dataclass(frozen=True, kw_only=True)
class About:
    """What a task asks."""

    evaluation: tuple[str, ...] = ("top1_acc", "mAP")
    """HEAR's names of its scores; the first is reported."""
    embedding_type: str = "scene"
    """scene: clips have labels; event: labels have times."""
    prediction_type: str = "multiclass"
    """multiclass: one label a clip; multilabel: any number."""
    seconds: float | None = None
    """Length of every clip, s; None if they differ."""

    def metadata(self, folder_name: str, folds: Iterable[str], made_from: str) -> dict[str, Any]:
        """Return the content of task_metadata.json; the name is TASK-VERSION-MODE."""
        task, version, mode = folder_name.rsplit("-", 2)
        splits = sorted(folds)
        fixed = set(splits) == {"train", "valid", "test"}
        return {
            "task_name": task,
            "version": version,
            "mode": mode,
            "embedding_type": self.embedding_type,
            "prediction_type": self.prediction_type,
            "split_mode": "trainvaltest" if fixed else "presplit_kfold",
            **({} if fixed else {"nfolds": len(splits)}),
            "splits": splits,
            "sample_duration": self.seconds,
            "evaluation": list(self.evaluation),
            "made_from": made_from,
        }


class LabelledClip(NamedTuple):
    """A clip of a task."""

    fold: str
    name: str
    """Of its file, without the ending."""
    samples: np.ndarray
    """int16 [samples] at 16 kHz."""
    labels: list[str] | list[dict[str, Any]]
    """Of the clip, or events with `label`, `start` and `end` (ms)."""


def write_task(folder: Path, metadata: dict[str, Any], clips: Iterable[LabelledClip]) -> None:
    """Write a task, complete or not at all; one that was made from the same is kept.

    Args:
        folder: the task folder to make, local.
        metadata: as `About` makes it; a task whose file says the same is up to date.
        clips: taken one by one, only if the task is made.

    Raises:
        UserError: the task folder is a URL.
    """
    if is_remote(folder):
        raise UserError(f"{folder} is a URL; a labelled task is a local folder: name one")
    about = folder / "task_metadata.json"
    if about.exists() and json.loads(about.read_text()) == metadata:
        return
    scratch = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    listings: dict[str, dict[str, list]] = {fold: {} for fold in metadata["splits"]}
    names, form = set[str](), wave_form()
    for clip in clips:
        target = scratch / "16000" / clip.fold / f"{clip.name}.wav"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(form.encode(clip.samples))
        listings[clip.fold][target.name] = clip.labels
        names |= {each if isinstance(each, str) else each["label"] for each in clip.labels}
    for fold, files in listings.items():
        (scratch / f"{fold}.json").write_text(json.dumps(files, indent=1))
    with (scratch / "labelvocabulary.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [("idx", "label"), *enumerate(sorted(names))]
        )
    (scratch / "task_metadata.json").write_text(json.dumps(metadata, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    scratch.replace(folder)


def stored_clips(wave: Path, wanted: Container[str]) -> Iterator[tuple[Row, np.ndarray]]:
    """Yield the clips of a wave set whose origins are wanted, each with its int16 [samples].

    Clips that failed are left out.
    """
    form = wave_form()
    for name in open_shards(wave, form).names:
        rows = [row for row in read_rows(wave / f"{name}.parquet") if row.origin in wanted]
        with (wave / f"{name}.tar").open("rb") as file:
            yield from ((row, read_clip(file, row, form)) for row in rows if row.status == "ok")

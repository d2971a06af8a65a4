"""Write clips of a wave set as a labelled task in the folder layout of HEAR 2021."""

import json
import shutil
from collections import defaultdict
from pathlib import Path

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.place import is_remote
from audio_barlow_twins.shards.stored.form import wave_form
from audio_barlow_twins.shards.stored.shardset import open_shards
from audio_barlow_twins.shards.stored.sidecar import Row, read_clip, read_rows

SCORES = ["top1_acc", "mAP"]


def write_task(wave: Path, folder: Path, folds: dict[str, str]) -> None:
    """Write a k-fold multiclass scene task, complete or not at all; keep one that is up to date.

    Args:
        folder: the task folder to make, local.
        folds: fold of each clip by its origin; a clip that failed is left out.

    Raises:
        UserError: the task folder is a URL.
    """
    if is_remote(folder):
        raise UserError(f"{folder} is a URL; a labelled task is a local folder: name one")
    shard_set = open_shards(wave, wave_form())
    metadata = _metadata(folder.name, sorted(set(folds.values())), shard_set.fingerprint)
    about = folder / "task_metadata.json"
    if about.exists() and json.loads(about.read_text()) == metadata:
        return
    scratch = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    labels: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for name in shard_set.names:
        rows = [row for row in read_rows(wave / f"{name}.parquet") if row.origin in folds]
        chosen = [row for row in rows if row.status == "ok"]
        for row, fold in zip(chosen, [folds[row.origin] for row in chosen], strict=True):
            labels[fold][f"{row.key}.wav"] = row.labels
        _write_waves(wave / f"{name}.tar", chosen, folds, scratch / "16000")
    for fold, files in labels.items():
        (scratch / f"{fold}.json").write_text(json.dumps(files, indent=1))
    names = sorted(
        {label for files in labels.values() for file in files.values() for label in file}
    )
    table = ["idx,label", *(f"{i},{name}" for i, name in enumerate(names))]
    (scratch / "labelvocabulary.csv").write_text("\n".join(table) + "\n")
    (scratch / "task_metadata.json").write_text(json.dumps(metadata, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    scratch.replace(folder)


def _write_waves(tar: Path, rows: list[Row], folds: dict[str, str], folder: Path) -> None:
    form = wave_form()
    with tar.open("rb") as file:
        for row in rows:
            target = folder / folds[row.origin] / f"{row.key}.wav"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(form.encode(read_clip(file, row, form)))


def _metadata(name: str, folds: list[str], fingerprint: str) -> dict:
    task, version, mode = name.rsplit("-", 2)
    return {
        "task_name": task,
        "version": version,
        "mode": mode,
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "presplit_kfold",
        "nfolds": len(folds),
        "splits": folds,
        "sample_duration": None,
        "evaluation": SCORES,
        "made_from": fingerprint,
    }

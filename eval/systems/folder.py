"""The files of a folder of weights: model.safetensors, config.json, README.md.

Tensors and plain text alone: reading them never runs code from them.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from audio_barlow_twins.model.checkpoint import Checkpoint
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import replacing

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
MODEL_TYPE = "audio-barlow-twins"
VERSION = 1
FACTS = tuple(field.name for field in fields(Checkpoint) if field.name not in {"state", "training"})
"""What config.json holds of a checkpoint: everything but weights and what only training needs."""


class FolderError(UserError):
    """A folder of weights is missing, incomplete, damaged or foreign."""


def write_folder(folder: Path, checkpoint: Checkpoint, embedding_size: int, card: str) -> None:
    """Write a checkpoint and its card.

    `config.json` is removed first and written last: a folder that has one is complete.
    """
    config = {
        "model_type": MODEL_TYPE,
        "version": VERSION,
        **{name: getattr(checkpoint, name) for name in FACTS},
        "sample_rate": checkpoint.front_end["sample_rate"],
        "embedding_size": embedding_size,
    }
    # safetensors refuses tensors that overlap or are laid out otherwise than row by row.
    state = {name: value.contiguous().clone() for name, value in checkpoint.state.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).unlink(missing_ok=True)
        with replacing(folder / WEIGHTS) as scratch:
            _safetensors().torch.save_file(state, scratch, metadata={"format": "pt"})
        with replacing(folder / CARD) as scratch:
            scratch.write_text(card, encoding="utf-8")
        with replacing(folder / CONFIG) as scratch:
            scratch.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise FolderError(f"{folder}: cannot be written: {error.strerror or error}") from error


def read_folder(folder: Path) -> Checkpoint:
    """Read what `write_folder` wrote, onto the CPU.

    Raises:
        FolderError: a file is missing or damaged, or the folder is another project's.
    """
    config, weights = _read_config(folder / CONFIG), folder / WEIGHTS
    if not weights.is_file():
        raise FolderError(f"{weights}: no such file; the folder is incomplete, get it again")
    safetensors = _safetensors()
    try:
        state = safetensors.torch.load_file(weights)
    except safetensors.SafetensorError as error:
        raise FolderError(f"{weights}: cannot be read as safetensors: {error}") from error
    return Checkpoint(**{name: config[name] for name in FACTS}, state=state)


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FolderError(f"{path}: no such file; give a folder that save_pretrained wrote")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FolderError(f"{path}: is not JSON: {error}") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != MODEL_TYPE:
        raise FolderError(f"{path}: model_type is {kind!r}, wanted {MODEL_TYPE!r}")
    if config.get("version") != VERSION:
        raise FolderError(
            f"{path}: version is {config.get('version')}, but this code reads {VERSION}; "
            "use the release that wrote it"
        )
    if missing := [name for name in FACTS if name not in config]:
        raise FolderError(f"{path}: lacks {', '.join(missing)}; it is damaged, get it again")
    return config


def _safetensors() -> Any:
    """Import the package, which only these folders need."""
    try:
        import safetensors.torch
    except ImportError as error:
        raise FolderError(
            "folders of weights need safetensors, which is not installed: "
            "pip install 'audio-barlow-twins[export]'"
        ) from error
    return safetensors

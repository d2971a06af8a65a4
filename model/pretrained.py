"""Encoders in the form that Hugging Face users share: a folder or a hub repository of safetensors.

They hold only tensors and plain text: reading them never runs code from them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as as_safetensors
from torch import Tensor, nn

from audio_barlow_twins.shards.base.files import replacing

from .checkpoint import OPTIONAL, Checkpoint, CheckpointError, completed, restore_encoder

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
MODEL_TYPE = "audio-barlow-twins"
VERSION = 1
FACTS = tuple(field.name for field in fields(Checkpoint) if field.name not in {"state", "training"})
"""What config.json holds of a checkpoint: all but weights and what only resuming needs."""

TEXT = """\
---
library_name: audio-barlow-twins
pipeline_tag: feature-extraction
tags: [audio, embeddings]
---

# {encoder}, {size} features

A frozen audio encoder with its front-end, written by a data-pipeline-first implementation of Audio
Barlow Twins ([Anton et al., ICASSP 2023](https://arxiv.org/abs/2209.14345)). It takes mono sound at
{rate} Hz and returns one vector of {size} features per clip.

| | |
| --- | --- |
| encoder | {encoder}, {sizes} |
| parameters | {n_parameters:,} |
| optimiser steps | {step:,} |
| fingerprint of the training data | `{fingerprint}` |
| log-mel of the training data | mean {mean:.4f}, standard deviation {std:.4f} |
| front-end | {front_end} |
| log-mel was computed by | {log_mel} |

```python
from audio_barlow_twins import load_model

model = load_model("this/folder")
embeddings = model(audio)  # float [N, samples] at {rate} Hz -> [N, {size}]
```

These facts come from the checkpoint; `abt eval hear` scores the encoder on tasks.
"""


def save_pretrained(checkpoint: Checkpoint, folder: Path, half: bool = False) -> None:
    """Write a checkpoint as model.safetensors, config.json and a README.md (the model card).

    `config.json` is removed first and written last, so a folder that has one is complete.

    Args:
        half: store the weights as float16, in half the bytes.

    Raises:
        CheckpointError: the weights do not fit the encoder, or the folder cannot be written.
    """
    encoder = restore_encoder(checkpoint)
    config = {
        "model_type": MODEL_TYPE,
        "version": VERSION,
        **{name: getattr(checkpoint, name) for name in FACTS},
        "sample_rate": checkpoint.front_end["sample_rate"],
        "embedding_size": encoder.out_features,
    }
    state = {name: _stored(value, half) for name, value in checkpoint.state.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).unlink(missing_ok=True)
        with replacing(folder / WEIGHTS) as scratch:
            # `save_file` makes a file that no other user may read.
            scratch.write_bytes(as_safetensors(state, metadata={"format": "pt"}))
        config["weights_sha256"] = sha256_of(folder / WEIGHTS)
        with replacing(folder / CARD) as scratch:
            scratch.write_text(_card(checkpoint, encoder), encoding="utf-8")
        with replacing(folder / CONFIG) as scratch:
            scratch.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written: {error.strerror or error}") from error


def read_folder(folder: Path) -> Checkpoint:
    """Read a folder that `save_pretrained` wrote onto the CPU.

    Weights that were stored as float16 become float32.

    Raises:
        CheckpointError: a file is missing, damaged or another project's.
    """
    config, weights = _read_config(folder / CONFIG), folder / WEIGHTS
    if not weights.is_file():
        raise CheckpointError(f"{weights}: no such file; the folder is incomplete, copy it again")
    wanted, found = config.get("weights_sha256"), sha256_of(weights)
    if wanted not in (None, found):  # earlier versions did not say
        raise CheckpointError(
            f"{weights}: its SHA-256 is {found}, {CONFIG} says {wanted}; it is damaged, or belongs "
            "to another encoder: copy the folder again"
        )
    try:
        stored = load_file(weights)
    except SafetensorError as error:
        raise CheckpointError(f"{weights}: cannot be read as safetensors: {error}") from error
    state = {
        name: value.float() if value.is_floating_point() else value
        for name, value in stored.items()
    }
    facts = {name: config[name] for name in FACTS if name in config}
    return completed(Checkpoint(**facts, state=state))


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give a folder that save_pretrained wrote")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: is not JSON: {error}") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != MODEL_TYPE:
        raise CheckpointError(f"{path}: model_type is {kind!r}, wanted {MODEL_TYPE!r}")
    if config.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: version is {config.get('version')}, but this code reads {VERSION}; "
            "use the release that wrote it"
        )
    if missing := [name for name in FACTS if name not in config and name not in OPTIONAL]:
        raise CheckpointError(f"{path}: lacks {', '.join(missing)}; it is damaged, copy it again")
    return config


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stored(value: Tensor, half: bool) -> Tensor:
    """Return a tensor as safetensors takes it: contiguous, and sharing memory with no other."""
    return (value.half() if half and value.is_floating_point() else value).contiguous().clone()


def read_pretrained(name: str | Path) -> Checkpoint:
    """Read a folder that `save_pretrained` wrote, or a repository of the Hugging Face hub.

    Args:
        name: the folder, or "owner/name" on the hub, which needs huggingface_hub.

    Raises:
        CheckpointError: there is no such folder or repository, or it cannot be used.
    """
    folder = Path(name)
    return read_folder(folder if folder.is_dir() else _download(str(name)))


def _card(checkpoint: Checkpoint, encoder: nn.Module) -> str:
    return TEXT.format(
        encoder=checkpoint.encoder,
        size=encoder.out_features,
        rate=checkpoint.front_end["sample_rate"],
        sizes=_listed(checkpoint.sizes) or "default sizes",
        n_parameters=sum(parameter.numel() for parameter in encoder.parameters()),
        step=checkpoint.step,
        fingerprint=checkpoint.fingerprint,
        mean=checkpoint.mean,
        std=checkpoint.std,
        front_end=_listed(checkpoint.front_end),
        log_mel=checkpoint.log_mel,
    )


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _download(name: str) -> Path:
    if name.count("/") != 1:
        raise CheckpointError(
            f"{name}: no such folder; give one, or the owner/name of a hub repository"
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise CheckpointError(
            f"{name}: no such folder, and to load it from the hub you need huggingface_hub, which "
            "is not installed: pip install huggingface_hub"
        ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS]))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{name}: no such folder, and the hub does not give it: {reason}"
        ) from error

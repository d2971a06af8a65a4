"""Encoders as Hugging Face users pass them on: `save_pretrained` and `from_pretrained`.

from .pretrained import from_pretrained

model = from_pretrained("runs/first/encoder")  # or "owner/name" on the hub
"""

from collections.abc import Mapping
from pathlib import Path

from audio_barlow_twins.model.checkpoint import Checkpoint

from ..hear import HearModel, frozen_model
from .folder import CONFIG, WEIGHTS, FolderError, read_folder, write_folder

CARD = """\
---
library_name: audio-barlow-twins
pipeline_tag: feature-extraction
tags: [audio, embeddings]
---

# {encoder}, {size} features

A frozen audio encoder with its front-end, as a data-pipeline-first implementation of Audio Barlow
Twins ([Anton et al., ICASSP 2023](https://arxiv.org/abs/2209.14345)) stores it. It takes mono sound
at {rate} Hz and gives one vector of {size} features for each clip.

| | |
| --- | --- |
| encoder | {encoder}, {sizes} |
| parameters | {n_parameters:,} |
| optimiser steps | {step:,} |
| fingerprint of the training data | `{fingerprint}` |
| log-mel of the training data | mean {mean:.4f}, standard deviation {std:.4f} |
| front-end | {front_end} |

```python
from ..hear import get_scene_embeddings
from .pretrained import from_pretrained

model = from_pretrained("this/folder")
embeddings = get_scene_embeddings(audio, model)  # float [N, samples] -> [N, {size}]
```

These are the facts that the weights came with; `abt eval hear` measures what they are worth.
"""


def save_pretrained(checkpoint: Checkpoint, folder: str | Path) -> None:
    """Write a checkpoint as model.safetensors, config.json and a README.md, the model card.

    Raises:
        FolderError: the folder cannot be written, or safetensors is not installed.
        ModelError: the weights do not fit the encoder.
    """
    model = frozen_model(checkpoint, "cpu")
    card = model_card(checkpoint, model)
    write_folder(Path(folder), checkpoint, model.scene_embedding_size, card)


def from_pretrained(name: str | Path, device: str | None = None) -> HearModel:
    """Load a frozen HEAR model.

    Args:
        name: a folder that `save_pretrained` wrote, or else a repository of the Hugging Face hub,
            "owner/name", which needs huggingface_hub.
        device: where to run, such as "cpu" or "cuda:1"; by default a GPU if there is one.

    Raises:
        FolderError: there is no such folder or repository, or it cannot be used.
        ModelError: the weights do not fit the encoder, or the device cannot be used.
    """
    folder = Path(name)
    return frozen_model(read_folder(folder if folder.is_dir() else _download(str(name))), device)


def model_card(checkpoint: Checkpoint, model: HearModel) -> str:
    """Write the README.md of a folder of weights, with the header that the hub reads."""
    return CARD.format(
        encoder=checkpoint.encoder,
        size=model.scene_embedding_size,
        rate=checkpoint.front_end["sample_rate"],
        sizes=_listed(checkpoint.sizes) or "default sizes",
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        step=checkpoint.step,
        fingerprint=checkpoint.fingerprint,
        mean=checkpoint.mean,
        std=checkpoint.std,
        front_end=_listed(checkpoint.front_end),
    )


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _download(name: str) -> Path:
    """Fetch a repository of the hub into its cache, and return the folder there."""
    if name.count("/") != 1:
        raise FolderError(f"{name}: no such folder; give one, or owner/name of a hub repository")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise FolderError(
            f"{name}: no such folder, and a repository of the hub needs huggingface_hub, which is "
            "not installed: pip install huggingface_hub"
        ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS]))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise FolderError(
            f"{name}: no such folder, nor to be had from the hub: {reason}"
        ) from error

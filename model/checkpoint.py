"""The self-contained checkpoint: an encoder, its weights, and what it was trained on.

A file holds only tensors and plain Python values, so reading it never runs code from it.
"""

import argparse
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import replacing

from .encoders import Size, build_encoder, completed_sizes

FORMAT = "audio-barlow-twins checkpoint"
VERSION = 1
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""First bytes of files that torch.save wrote before version 1.6; later ones are zip files."""
DAMAGE = (
    *(RuntimeError, pickle.UnpicklingError, EOFError, struct.error, LookupError),
    *(ValueError, TypeError, AttributeError, AssertionError),
)
"""What torch.load raises for damaged files; found by changing bytes and truncating files."""


class CheckpointError(UserError):
    """A checkpoint cannot be read, written or restored."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """All that is needed to embed clips with an encoder, or to resume its training."""

    encoder: str
    """Registered name of the encoder."""
    sizes: Mapping[str, Size]
    """Keyword arguments of the encoder's constructor, those of options that were not given too."""
    state: dict[str, Tensor]
    """State dict of the encoder."""
    front_end: dict[str, str | int | float]
    """Parameters of the log-mel front-end of the inputs."""
    mean: float
    """Mean of the data set's log-mel, subtracted from the input."""
    std: float
    """Standard deviation of the data set's log-mel, by which the input is divided."""
    fingerprint: str
    """Of the shard set that the encoder was trained on."""
    step: int
    """Optimiser steps taken."""
    training: dict[str, Any] | None = None
    """What only resuming needs; None in an exported encoder."""
    log_mel: str = "unknown"
    """What computed the log-mel of the inputs, fft or nnaudio; earlier versions did not say."""


OPTIONAL = {"log_mel"}
"""Fields that earlier versions did not write."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically; an older file stays until the new one is complete."""
    payload = {f.name: _plain(getattr(checkpoint, f.name), f.name) for f in fields(checkpoint)}
    with replacing(Path(path)) as scratch, scratch.open("wb") as file:
        try:
            torch.save({"format": FORMAT, "version": VERSION} | payload, file)
        except RuntimeError as error:  # of torch's own writer, raised while another is handled
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, another program's, or of another version.
    """
    payload = read_torch_file(path)
    if not is_own(payload):
        raise CheckpointError(f"{path}: not a checkpoint of this project; give one from train")
    return checkpoint_of(payload, path)


def read_torch_file(path: Path) -> Any:
    """Read a file that `torch.save` wrote onto the CPU, without running code from it.

    Raises:
        CheckpointError: the file is missing, damaged, or holds more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give the path of a checkpoint")
    with path.open("rb") as file:
        legacy = file.read(len(LEGACY)) == LEGACY
    if not (legacy or zipfile.is_zipfile(path)):
        raise CheckpointError(f"{path}: not a checkpoint, or cut short; give one that train wrote")
    try:
        # The files of the paper's authors hold their command line, which is a plain container.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, weights_only=True, map_location="cpu")
    except DAMAGE as error:
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(f"{path}: not a checkpoint, or damaged: {reason}") from error


def is_own(payload: Any) -> bool:
    """Return whether the content of a file was written by `save_checkpoint`."""
    return isinstance(payload, dict) and payload.get("format") == FORMAT


def checkpoint_of(payload: dict[str, Any], path: Path) -> Checkpoint:
    """Return the checkpoint in the content of a file that `save_checkpoint` wrote."""
    if payload.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: checkpoint format {payload.get('version')}, but this code reads {VERSION}; "
            "use the release that wrote it"
        )
    names = {field.name for field in fields(Checkpoint)}
    if missing := sorted(names - payload.keys() - OPTIONAL):
        raise CheckpointError(f"{path}: checkpoint lacks {', '.join(missing)}; it is damaged")
    return completed(Checkpoint(**{name: payload[name] for name in names & payload.keys()}))


def completed(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint that was read with all sizes, if an earlier version left some out."""
    sizes = completed_sizes(checkpoint.encoder, checkpoint.sizes, checkpoint.state)
    return replace(checkpoint, sizes=sizes)


def restore_encoder(checkpoint: Checkpoint) -> nn.Module:
    """Return the encoder of a checkpoint, with its weights and in evaluation mode."""
    encoder = build_encoder(checkpoint.encoder, checkpoint.sizes)
    try:
        encoder.load_state_dict(checkpoint.state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"weights do not fit {checkpoint.encoder}: {reason}") from error
    return encoder.eval()


def _plain(value: Any, where: str) -> Any:
    """Convert nested containers to the types that a safe load accepts, or raise."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {
            _plain(key, f"a key of {where}"): _plain(item, f"{where}[{key!r}]")
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        items = [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if value is None or type(value) in (bool, bytes):
        return value
    if isinstance(value, str):  # strips subclasses: enums here, numpy.float64 below
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    raise CheckpointError(
        f"{where} is a {type(value).__name__}; checkpoints hold tensors and plain values"
    )

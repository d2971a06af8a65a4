"""Random weights: the score of an encoder's architecture and front-end without training.

    abt eval validate audio_barlow_twins.eval.systems.baselines.random_init \\
        --options encoder=vitc-b-16x8 seed=1

Uses architecture, front-end and statistics of a checkpoint if one is given, otherwise the paper's.
"""

from dataclasses import replace
from pathlib import Path

import torch

from audio_barlow_twins.model.checkpoint import Checkpoint
from audio_barlow_twins.model.embedder import Embedder, frozen, read_checkpoint
from audio_barlow_twins.model.encoders import (
    Size,
    build_encoder,
    default_options,
    encoder_options,
)
from audio_barlow_twins.model.foreign import STATISTICS
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.front_end import FrontEnd

from ...hear import get_scene_embeddings, get_timestamp_embeddings

__all__ = ["get_scene_embeddings", "get_timestamp_embeddings", "load_model", "random_init"]

RANDOM_SEED = 0
UNTRAINED = "none (random weights)"


def load_model(
    model_file_path: str | Path = "",
    device: str | None = None,
    encoder: str = "",
    seed: int = RANDOM_SEED,
    **options: Size,
) -> Embedder:
    """Build an encoder with random weights as a frozen HEAR model.

    Args:
        model_file_path: checkpoint with the architecture, front-end and statistics to use.
        device: such as "cpu" or "cuda:1"; by default a GPU if there is one.
        encoder: one that `abt model` lists; by default the checkpoint's, or AudioNTT.
        options: of the encoder, such as `pool="mean"`.

    Raises:
        UserError: there is no such checkpoint, encoder or option.
    """
    checkpoint = template(model_file_path)
    if encoder:
        checkpoint = replace(checkpoint, encoder=encoder, sizes={})
    texts = [f"{name}={value}" for name, value in options.items()]
    try:
        chosen = encoder_options(checkpoint.encoder, texts)
        given = {**checkpoint.sizes, "n_mels": checkpoint.front_end["n_mels"], **chosen}
        sizes = default_options(checkpoint.encoder) | given
        return random_init(replace(checkpoint, sizes=sizes), device, seed)
    except ValueError as error:
        raise UserError(str(error)) from error


def template(model_file_path: str | Path = "") -> Checkpoint:
    """Read a checkpoint, or return one of the paper's AudioNTT on AudioSet without weights."""
    if str(model_file_path):
        return read_checkpoint(Path(model_file_path))
    mean, std = STATISTICS["audioset"]
    return Checkpoint(
        encoder="audiontt",
        sizes={},
        state={},
        front_end=FrontEnd().parameters(),
        mean=mean,
        std=std,
        fingerprint=UNTRAINED,
        step=0,
    )


def random_init(
    checkpoint: Checkpoint, device: str | None = None, seed: int = RANDOM_SEED
) -> Embedder:
    """Build a model like the checkpoint's, but with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # weights are drawn on the CPU
        state = build_encoder(checkpoint.encoder, checkpoint.sizes).state_dict()
        drawn = replace(checkpoint, state=state, fingerprint=UNTRAINED, step=0, training=None)
        return frozen(drawn, device)

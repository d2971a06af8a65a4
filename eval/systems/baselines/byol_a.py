"""BYOL-A (Niizumi et al. 2021, and v2 of 2023) from its published state dicts.

The files are in the authors' repository (nttcslab/byol-a, `pretrained_weights` and `v2`). Each
version runs with the front-end that it was trained on: see `model/foreign.py`.
"""

from pathlib import Path

from audio_barlow_twins.model.embedder import Embedder, frozen
from audio_barlow_twins.model.foreign import BYOLA_V1, BYOLA_V2, load_foreign
from audio_barlow_twins.shards.base.errors import UserError

from ...hear import get_scene_embeddings, get_timestamp_embeddings

__all__ = ["get_scene_embeddings", "get_timestamp_embeddings", "load_model"]

VERSIONS = [origin.front_end.parameters() for origin in (BYOLA_V1, BYOLA_V2)]


def load_model(model_file_path: str | Path = "", device: str | None = None) -> Embedder:
    """Load weights of BYOL-A as a frozen HEAR model.

    Args:
        model_file_path: state dict such as `AudioNTT2020-BYOLA-64x96d2048.pth`.
        device: such as "cpu" or "cuda:1"; by default a GPU if there is one.

    Raises:
        UserError: no file was named, or the file holds no BYOL-A weights.
    """
    if not str(model_file_path):
        raise UserError(
            "BYOL-A needs its weights; pass the path of AudioNTT2020-BYOLA-64x96d2048.pth, or of "
            "another state dict of github.com/nttcslab/byol-a"
        )
    checkpoint = load_foreign(Path(model_file_path))
    if checkpoint.front_end not in VERSIONS:
        raise UserError(
            f"{model_file_path}: weights of {checkpoint.encoder}, but not BYOL-A's; use eval.hear"
        )
    return frozen(checkpoint, device)

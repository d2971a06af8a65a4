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


def load_model(
    model_file_path: str | Path = "", device: str | None = None, version: int = 0, width: int = 0
) -> Embedder:
    """Load weights of BYOL-A as a frozen HEAR model.

    Args:
        model_file_path: state dict such as `AudioNTT2020-BYOLA-64x96d2048.pth`.
        device: such as "cpu" or "cuda:1"; by default a GPU if there is one.
        version: 1 or 2, which the weights must be of; 0: any.
        width: units of the last layer, which the weights must have; 0: any. An embedding of version
            1 has as many features, one of version 2 has 1024 more.

    Raises:
        UserError: no file was named, or it does not hold such weights.
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
    found = 1 + VERSIONS.index(checkpoint.front_end), len(checkpoint.state["fc.3.bias"])
    wanted = version or found[0], width or found[1]
    if found != wanted:
        raise UserError(
            f"{model_file_path}: BYOL-A v{found[0]} of width {found[1]}, wanted v{wanted[0]} of "
            f"width {wanted[1]}; the baseline byol-a takes any"
        )
    return frozen(checkpoint, device)

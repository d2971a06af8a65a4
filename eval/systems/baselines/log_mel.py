"""Mean and standard deviation of every mel bin over time: the least that an encoder must beat.

Uses the front-end and the statistics of a checkpoint if one is given, otherwise the paper's.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from audio_barlow_twins.model.checkpoint import Checkpoint
from audio_barlow_twins.model.embedder import Embedder, wrap_encoder

from ...hear import get_scene_embeddings, get_timestamp_embeddings
from .random_init import template

__all__ = ["get_scene_embeddings", "get_timestamp_embeddings", "load_model", "log_mel_statistics"]


class MeanStd(nn.Module):
    def __init__(self, n_mels: int) -> None:
        super().__init__()
        self.out_features = 2 * n_mels

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised log-mel [N, T, F] to [N, 2F]: the means, then the deviations."""
        return torch.cat([x.mean(dim=1), x.std(dim=1, correction=0)], dim=1)


def load_model(model_file_path: str | Path = "", device: str | None = None) -> Embedder:
    """Build the baseline as a HEAR model.

    Args:
        model_file_path: checkpoint with the front-end and the statistics to use.
        device: such as "cpu" or "cuda:1"; by default a GPU if there is one.

    Raises:
        UserError: there is no such checkpoint.
    """
    return log_mel_statistics(template(model_file_path), device)


def log_mel_statistics(checkpoint: Checkpoint, device: str | None = None) -> Embedder:
    """Build the baseline with the front-end and the statistics of a checkpoint."""
    return wrap_encoder(MeanStd(int(checkpoint.front_end["n_mels"])), checkpoint, device)

"""Systems that a trained encoder has to beat; each is a `HearModel` like any other."""

import torch
from torch import Tensor, nn

from eval.hear import HearModel, frozen_model, wrap_encoder
from model.checkpoint import Checkpoint
from model.encoders import build_encoder

RANDOM_SEED = 0


class MeanStd(nn.Module):
    """Mean and standard deviation of every mel bin over time: an encoder without weights."""

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        self.out_features = 2 * n_mels

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised log-mel [N, T, F] to [N, 2F]: the means, then the deviations."""
        return torch.cat([x.mean(dim=1), x.std(dim=1, correction=0)], dim=1)


def random_init(
    checkpoint: Checkpoint, device: str | None = None, seed: int = RANDOM_SEED
) -> HearModel:
    """Build the checkpoint's architecture with random weights, its front-end and its statistics."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        encoder = build_encoder(checkpoint.encoder, checkpoint.sizes)
    return wrap_encoder(encoder, checkpoint, device)


def log_mel_statistics(checkpoint: Checkpoint, device: str | None = None) -> HearModel:
    """Build the baseline that sees only mean and spread of the log-mel spectrum over time."""
    return wrap_encoder(MeanStd(int(checkpoint.front_end["n_mels"])), checkpoint, device)


def compared_systems(checkpoint: Checkpoint, device: str | None = None) -> dict[str, HearModel]:
    """Build the systems of a report by the names of its rows: the checkpoint and the baselines."""
    return {
        "checkpoint": frozen_model(checkpoint, device),
        "random init": random_init(checkpoint, device),
        "log-mel mean+std": log_mel_statistics(checkpoint, device),
    }

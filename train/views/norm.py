"""Normalisation of log-mel: by the data set's statistics, or by BYOL-A's running ones."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

PPN_EPOCHS = 10
"""Passes over the set after which running statistics are frozen (BYOL-A's code)."""

Gather = Callable[[Tensor], Tensor]


class SetNorm(nn.Module):
    """Subtract the data set's mean and divide by its standard deviation."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    def learn(self, x: Tensor) -> None:
        """Ignore the next batch: there is nothing to learn."""

    def finish(self, views: Tensor) -> Tensor:
        """Return the views of a batch unchanged."""
        return views

    def statistics(self) -> tuple[float, float]:
        """Return mean and standard deviation for a checkpoint."""
        return self.mean, self.std


class RunningNorm(nn.Module):
    """PPN, BYOL-A's normalisation before and after the augmentations (Niizumi et al., 2021).

    Before: by mean and standard deviation of all clips so far; they are frozen after `n_clips`.
    After: both views of a batch together get mean 0 and variance 1, as in BYOL-A, or each view by
    itself if `per_view`, as in the code of the paper's authors. All of that is over all processes:
    `gather` collects their rows in the order of the global batch.
    """

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(
        self, n_clips: int, device: torch.device, gather: Gather, per_view: bool = False
    ) -> None:
        super().__init__()
        self.n_clips, self.gather, self.per_view = n_clips, gather, per_view
        zero = torch.zeros((), dtype=torch.float64, device=device)
        self.register_buffer("count", zero)
        self.register_buffer("mean", zero.clone())
        self.register_buffer("variance", zero.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Normalise log-mel by the running statistics, float32 [N, T, F]."""
        return (x - self.mean.float()) / self.variance.sqrt().float()

    def learn(self, x: Tensor) -> None:
        """Merge a batch into the running statistics (Chan et al., 1979)."""
        moments = self.gather(clip_moments(x))
        added = torch.where(self.count < self.n_clips, len(moments), 0)
        share = added / (self.count + added)
        mean, variance = pooled(moments)
        step = mean - self.mean
        self.variance += share * (variance - self.variance + (1 - share) * step.square())
        self.mean += share * step
        self.count += added

    def finish(self, views: Tensor) -> Tensor:
        """Return views A, then views B of a batch, float32 [2N, T, F], with mean 0, variance 1."""
        halves = [self.gather(half) for half in clip_moments(views).chunk(2)]
        if self.per_view:
            parts = zip(views.chunk(2), halves, strict=True)
            return torch.cat([_standard(view, moments) for view, moments in parts])
        return _standard(views, torch.cat(halves))

    def statistics(self) -> tuple[float, float]:
        """Return the running mean and standard deviation; waits for the device."""
        return float(self.mean), float(self.variance.sqrt())


def _standard(views: Tensor, moments: Tensor) -> Tensor:
    """Normalise views by the moments [N, 2] of all clips that count."""
    mean, variance = pooled(moments)
    return (views - mean.float()) / variance.sqrt().float()


def clip_moments(x: Tensor) -> Tensor:
    """Return mean and variance of every clip: [N, T, F] to float64 [N, 2]."""
    # Not by torch.var_mean, which torch.compile (2.13) cannot vectorise in float64.
    values = x.flatten(1).double()
    mean = values.mean(1)
    return torch.stack([mean, (values - mean[:, None]).square().mean(1)], dim=1)


def pooled(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of all values, from moments [N, 2] of clips of equal size."""
    mean = moments[:, 0].mean()
    return mean, moments[:, 1].mean() + (moments[:, 0] - mean).square().mean()

"""The method on one page (Anton et al. 2023, after Zbontar et al. 2021): two views in, loss out.

    y = encoder(view)            [N, T, F] -> [N, D]      for both views; only the encoder is kept
    z = projector(y)             [N, D] -> [N, P]
    C = correlation(z_a, z_b)    [P, P]                    over the batch of all processes
    loss = sum_i (1 - C_ii)^2 + lambda * sum_{i != j} C_ij^2

Every process computes the same loss from the same correlation matrix. A gradient that flows back
through a sum over processes is itself summed over processes, so a local embedding receives
d(sum of all losses) / d(embedding), which is world size times the true gradient;
DistributedDataParallel averages over processes, which removes that factor exactly.
"""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn


class BarlowTerms(NamedTuple):
    """The loss and its two unweighted terms, each a scalar tensor."""

    loss: Tensor
    on_diagonal: Tensor
    off_diagonal: Tensor


class Outcome(NamedTuple):
    """What the forward pass of a batch returns."""

    terms: BarlowTerms
    correlation: Tensor
    """Cross-correlation of the projections, float32 [P, P], detached."""
    embeddings: Tensor
    """The encoder's embeddings of view A, float [N, D], detached."""


class BarlowTwins(nn.Module):
    """Encoder, projector and loss.

    Args:
        encoder: [N, T, F] to [N, encoder.out_features].
        hidden: width of the projector's hidden layers, 8192 in the paper.
        out_features: size of the projector's output, 1024 for AudioSet in the paper.
        lambda_: weight of the off-diagonal term.
        layers: hidden layers of the projector, 1 in the paper.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        hidden: int,
        out_features: int,
        lambda_: float,
        layers: int = 1,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        width = int(encoder.out_features)  # type: ignore[arg-type]
        self.projector = Projector(width, hidden, out_features, layers)
        self.lambda_ = lambda_

    def forward(self, view_a: Tensor, view_b: Tensor) -> Outcome:
        """Compare two views, normalised log-mel [N, T, F]; each has its own batch statistics."""
        y_a, y_b = self.encoder(view_a), self.encoder(view_b)
        correlation = cross_correlation(self.projector(y_a), self.projector(y_b))
        terms = loss_of(correlation, self.lambda_)
        return Outcome(terms, correlation.detach(), y_a.detach())


class Projector(nn.Sequential):
    """Hidden layers of Linear, BatchNorm, ReLU, then Linear; no linear layer has a bias."""

    def __init__(self, in_features: int, hidden: int, out_features: int, layers: int = 1) -> None:
        stack: list[nn.Module] = []
        for width in [in_features, *[hidden] * (layers - 1)][:layers]:
            stack += [nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()]
        last = hidden if layers else in_features
        super().__init__(*stack, nn.Linear(last, out_features, bias=False))


def cross_correlation(a: Tensor, b: Tensor, eps: float = 1e-5) -> Tensor:
    """Correlate every feature of `a` with every feature of `b` over the batch of all processes.

    Args:
        a, b: this process's projections of views A and B, float [N, P].
        eps: variance floor that keeps constant features finite.

    Returns:
        Pearson correlations in [-1, 1], [P, P]; float32, or float64 for float64 projections,
        computed in that precision under autocast too.
    """
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(
            f"projections have shapes {list(a.shape)} and {list(b.shape)}; give two equal [N, P]"
        )
    with torch.autocast(device_type=a.device.type, enabled=False):
        both = torch.stack([a, b]).to(torch.promote_types(a.dtype, torch.float32))
        count = both.new_full((2, 1), a.shape[0])
        totals = sum_over_processes(torch.cat([both.sum(dim=1), count], dim=1))
        count = totals[:, None, -1:]
        centred = both - totals[:, None, :-1] / count
        variance = sum_over_processes(centred.square().sum(dim=1, keepdim=True)) / count
        standard_a, standard_b = (centred * torch.rsqrt(variance + eps)).unbind()
        return sum_over_processes(standard_a.T @ standard_b) / count[0]


def loss_of(correlation: Tensor, lambda_: float = 0.005) -> BarlowTerms:
    """Return the loss of a cross-correlation [P, P], which is lowest at the identity."""
    on_diagonal = (1 - correlation.diagonal()).square().sum()
    size = len(correlation)
    # All elements except the diagonal, as a view [P - 1, P].
    others = correlation.flatten()[:-1].view(size - 1, size + 1)[:, 1:]
    off_diagonal = others.square().sum()
    return BarlowTerms(on_diagonal + lambda_ * off_diagonal, on_diagonal, off_diagonal)


def sum_over_processes(x: Tensor) -> Tensor:
    """Sum `x` over all processes; the gradient is the sum of the processes' gradients."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return x
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(x.contiguous())

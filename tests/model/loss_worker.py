"""One process of the two that share a batch in test_loss.py: writes its loss and gradients."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from audio_barlow_twins.model.barlow_twins import cross_correlation, loss_of

N_FEATURES = 6


def make_net() -> nn.Module:
    """Build the same small network without batch statistics in every process."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(N_FEATURES, 8), nn.Tanh(), nn.Linear(8, 5)).double()


def make_views(batch: int) -> tuple[Tensor, Tensor]:
    """Draw two related batches, float64 [batch, N_FEATURES]."""
    g = torch.Generator().manual_seed(4)
    x, noise = torch.randn(2, batch, N_FEATURES, generator=g, dtype=torch.float64)
    return x, x + 0.5 * noise


def loss_and_gradients(net: nn.Module, a: Tensor, b: Tensor) -> list[Tensor]:
    """Take one training step's loss and gradients with one call of the network."""
    net.zero_grad()
    terms = loss_of(cross_correlation(*net(torch.cat([a, b])).chunk(2)))
    terms.loss.backward()
    return [terms.loss.detach(), *(p.grad.clone() for p in net.parameters() if p.grad is not None)]


def main(rank: int, folder: Path) -> None:
    """Run rank `rank` of two on its part of the batch; once even, once uneven."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    net = DistributedDataParallel(make_net())
    results = []
    for first in (8, 5):
        part = slice(None, first) if rank == 0 else slice(first, None)
        a, b = make_views(16)
        results.append(loss_and_gradients(net, a[part], b[part]))
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

"""The optimiser of a run, and its learning rate at every step."""

from torch import nn
from torch.optim import AdamW, Optimizer

from ..config import OptimiserConfig
from .lars import LARS, lars_groups

BETAS = (0.9, 0.999)
"""Of AdamW, as in the paper."""


def make_optimiser(network: nn.Module, given: OptimiserConfig, batch: int) -> Optimizer:
    """Return the optimiser of a network; `peak_lr` of its groups is the rate after the warm-up.

    The given rates are for a batch of 128 and scale with `batch`.
    """
    scale = batch / 128
    groups = lars_groups([network], given.lr_weights * scale, given.lr_biases * scale)
    optimiser: Optimizer
    if given.kind == "lars":
        optimiser = LARS(
            groups, momentum=given.momentum, trust=given.trust, weight_decay=given.weight_decay
        )
    else:
        for group in groups:
            group.pop("adapt", None)
        fused = next(network.parameters()).device.type == "cuda"
        optimiser = AdamW(groups, betas=BETAS, weight_decay=given.weight_decay, fused=fused)
    for group in optimiser.param_groups:
        group["peak_lr"] = group["lr"]
    return optimiser


def set_rate(optimiser: Optimizer, factor: float) -> None:
    """Set every group's learning rate to `factor` times its peak."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak_lr"] * factor

"""The optimiser of a run, and its learning rate at every step."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ..config import OptimiserConfig
from .lars import LARS, lars_groups

BETAS = (0.9, 0.999)
"""Of AdamW, as in the paper."""


def make_optimiser(
    network: nn.Module, given: OptimiserConfig, batch: int, captured: bool = False
) -> Optimizer:
    """Return the optimiser of a network; `peak_lr` of its groups is the rate after the warm-up.

    The given rates are for a batch of 128 and scale with `batch`. If steps are `captured`, rates
    are tensors on the device.
    """
    scale, device = batch / 128, next(network.parameters()).device
    groups = lars_groups([network], given.lr_weights * scale, given.lr_biases * scale)
    optimiser: Optimizer
    if given.kind == "lars":
        optimiser = LARS(
            groups, momentum=given.momentum, trust=given.trust, weight_decay=given.weight_decay
        )
    else:
        for group in groups:
            group.pop("adapt", None)
        fused = device.type == "cuda"
        optimiser = AdamW(
            groups, betas=BETAS, weight_decay=given.weight_decay, fused=fused, capturable=captured
        )
    for group in optimiser.param_groups:
        group["peak_lr"] = group["lr"]
        if captured:
            group["lr"] = torch.tensor(group["lr"], device=device)
    return optimiser


def set_rate(optimiser: Optimizer, factor: float) -> None:
    """Set every group's learning rate to `factor` times its peak."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(group["peak_lr"] * factor)
        else:
            group["lr"] = group["peak_lr"] * factor


def optimiser_state(optimiser: Optimizer) -> dict[str, Any]:
    """Return the state for a checkpoint; its rates are the peaks, as plain numbers."""
    state = optimiser.state_dict()
    for group in state["param_groups"]:
        group["lr"] = group["peak_lr"]
    return state


def load_optimiser_state(optimiser: Optimizer, state: dict[str, Any]) -> None:
    """Continue from the state of another device or kind of step, whose options do not count."""
    own = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state["state"], "param_groups": own})

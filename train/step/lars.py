"""LARS (You et al., 2017) as the public Barlow Twins code applies it."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class LARS(Optimizer):
    """Momentum SGD whose step for each weight is scaled by the norm of that weight.

    Args:
        params: parameters or groups; a group's `adapt` says whether its steps are scaled.
        lr: learning rate of groups that set none; a group's may be a tensor on the device.
        momentum: share of the last step that is added to the next.
        trust: trust coefficient, the norm of an adapted gradient relative to its weight's.
        weight_decay: weight times this is added to the gradient before the scaling.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.4,
        momentum: float = 0.9,
        trust: float = 0.001,
        weight_decay: float = 1e-5,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "trust": trust,
            "weight_decay": weight_decay,
            "adapt": True,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._step_group(params, group)
        return loss

    def _step_group(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """Update the parameters of one group, without waiting for the device.

        Gradients are overwritten, as allocating memory of their size is slow on a CPU.
        """
        grads = [p.grad for p in params if p.grad is not None]
        if group["weight_decay"] != 0:
            torch._foreach_add_(grads, params, alpha=group["weight_decay"])
        if group["adapt"]:
            _adapt(params, grads, group["trust"])
        for p in params:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        steps = [self.state[p]["momentum"] for p in params]
        torch._foreach_mul_(steps, group["momentum"])
        torch._foreach_add_(steps, grads)
        if isinstance(group["lr"], Tensor):
            torch._foreach_sub_(params, torch._foreach_mul(steps, group["lr"]))
        else:
            torch._foreach_add_(params, steps, alpha=-group["lr"])


def lars_groups(
    modules: Iterable[nn.Module], lr_weights: float, lr_biases: float
) -> list[dict[str, Any]]:
    """Return groups of weights, and of biases and norms, which are neither adapted nor decayed."""
    params = list(dict.fromkeys(p for m in modules for p in m.parameters() if p.requires_grad))
    return [
        {"params": [p for p in params if p.ndim >= 2], "lr": lr_weights},
        {
            "params": [p for p in params if p.ndim < 2],
            "lr": lr_biases,
            "weight_decay": 0.0,
            "adapt": False,
        },
    ]


def _adapt(params: list[Tensor], grads: list[Tensor], trust: float) -> None:
    """Scale each gradient to `trust` times the norm of its parameter, unless a norm is zero."""
    param_norms = torch.stack(torch._foreach_norm(params))
    grad_norms = torch.stack(torch._foreach_norm(grads))
    usable = (param_norms > 0) & (grad_norms > 0)
    scales = torch.where(usable, trust * param_norms / grad_norms, 1.0)
    torch._foreach_mul_(grads, scales.unbind())

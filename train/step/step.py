"""One step as a function of its inputs: views, network, loss, gradients, optimiser.

    crops, keys ─▶ views A and B ─▶ network ─▶ loss ─▶ gradients ─▶ optimiser
                                                 └─▶ losses, correlation, embeddings

It waits for no value and decides nothing on the host, so it can be captured as one CUDA graph. What
changes from step to step on the host is set before: learning rates and the seed of dropout.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from audio_barlow_twins.model.barlow_twins import Outcome

from ..views.pipeline import TwoViews


class StepResult(NamedTuple):
    """What a step leaves on the device."""

    losses: Tensor
    """The loss and its two unweighted terms, float32 [3]."""
    correlation: Tensor
    """Cross-correlation of the projections, float32 [P, P]."""
    embeddings: Tensor
    """This process's embeddings of view A, float [N, D]."""


Step = Callable[[Tensor, Tensor], StepResult]
"""A step on crops and keys; see `feed.Inputs`."""


@dataclass(frozen=True)
class PlainStep:
    """A step whose kernels are launched one after the other."""

    views: TwoViews
    model: nn.Module
    """The network, or what averages its gradients over processes."""
    optimiser: Optimizer
    bf16: bool
    """Whether encoder and projector run under bfloat16 autocast."""
    mark: Callable[[str], object] = lambda part: None
    """Called at the end of each part."""

    def __call__(self, crops: Tensor, keys: Tensor) -> StepResult:
        view_a, view_b = self.views(crops, keys)
        self.mark("views")
        with torch.autocast(crops.device.type, torch.bfloat16, enabled=self.bf16):
            outcome: Outcome = self.model(view_a, view_b)
        self.optimiser.zero_grad(set_to_none=True)
        outcome.terms.loss.backward()
        self.mark("forward and backward")
        self.optimiser.step()
        self.mark("optimiser")
        losses = torch.stack([term.detach().float() for term in outcome.terms])
        return StepResult(losses, outcome.correlation, outcome.embeddings)

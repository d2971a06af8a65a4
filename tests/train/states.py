"""Checkpoints compared bit for bit."""

from typing import Any

import torch
from torch import Tensor

from audio_barlow_twins.model.checkpoint import (
    Checkpoint,
)


def assert_same_state(first: Checkpoint, second: Checkpoint) -> None:
    """Compare weights, projector and optimiser bit for bit."""
    pairs = zip(
        flat([first.state, first.training]), flat([second.state, second.training]), strict=True
    )
    for one, other in pairs:
        if isinstance(one, Tensor):
            assert torch.equal(one, other)
        else:
            assert one == other


def flat(value: Any) -> list[Any]:
    """List the leaves of nested containers in their order."""
    if isinstance(value, dict):
        return [leaf for key in value for leaf in [key, *flat(value[key])]]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in flat(item)]
    return [value]

"""Cubic resizing of a window of its own for every sample, written as one matrix a sample."""

import torch
from torch import Tensor

CUBIC_A = -0.75
"""Parameter of Keys's kernel that torch's bicubic interpolation has."""


def resize_weights(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Write the cubic resize of one axis's window to `size` points as matrices.

    Args:
        start: first point of each window relative to the input, int64 [N]; may be negative.
        length: points of each window, int64 [N].
        size: points of the input and of the output; the input is zero outside.

    Returns:
        Weights of the input's points (columns) in the output's (rows), float32 [N, size, size].
    """
    # Output i lies at i (length - 1) / (size - 1) in the window: whole and rest in integers.
    intervals = max(size - 1, 1)
    position = torch.arange(size, device=start.device) * (length - 1)[:, None]
    whole = position // intervals
    rest = (position - whole * intervals).to(torch.float32) / intervals
    taps = whole[..., None] + torch.arange(-1, 3, device=start.device)
    taps = taps.clamp_min(0).minimum((length - 1)[:, None, None]) + start[:, None, None]
    weights = cubic_weights(rest) * ((taps >= 0) & (taps < size))
    matrices = weights.new_zeros(len(start), size, size)
    return matrices.scatter_add_(2, taps.clamp(0, size - 1), weights)


def cubic_weights(rest: Tensor) -> Tensor:
    """Weigh the 4 points around a position by Keys's cubic kernel: [...] in [0, 1) to [..., 4]."""
    near = torch.stack([rest, 1 - rest], dim=-1)
    near_weights = ((CUBIC_A + 2) * near - (CUBIC_A + 3)) * near.square() + 1
    far = near + 1
    far_weights = ((CUBIC_A * far - 5 * CUBIC_A) * far + 8 * CUBIC_A) * far - 4 * CUBIC_A
    return torch.cat([far_weights[..., :1], near_weights, far_weights[..., 1:]], dim=-1)

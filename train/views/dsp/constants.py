"""Tensors that never change, made once for each device.

A step then neither computes nor copies them, and one that was captured as a CUDA graph reads memory
that stays.
"""

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


@torch.compiler.assume_constant_result
def constant(make: Callable[..., np.ndarray], device: torch.device, *sizes: int) -> Tensor:
    """Return `make(*sizes)` on a device; the same tensor for the same arguments."""
    return _constant(make, device, *sizes)


@functools.cache
def _constant(make: Callable[..., np.ndarray], device: torch.device, *sizes: int) -> Tensor:
    return torch.from_numpy(make(*sizes)).to(device)

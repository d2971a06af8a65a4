"""Tensors that never change, made once for each device.

A step then neither computes nor copies them, and one that was captured as a CUDA graph reads memory
that stays.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

MADE: dict[tuple[Any, ...], Tensor] = {}
"""By what made them, device and sizes."""


def constant(make: Callable[..., np.ndarray], device: torch.device, *sizes: int) -> Tensor:
    """Return `make(*sizes)` on a device; the same tensor for the same arguments.

    Compiled code finds it where the same call has been made before by the interpreter.
    """
    key = (make, device, *sizes)
    if not torch.compiler.is_compiling() and key not in MADE:
        MADE[key] = torch.from_numpy(make(*sizes)).to(device)
    return MADE[key]

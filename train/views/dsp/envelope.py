"""Envelopes that rise and fall with time constants, without a loop over all of time.

Time is cut into blocks, and the recursions of all blocks of all samples run in parallel. The maps
from the state at a block's start to that at its end are composed by doubling (Blelloch, 1990):
y' = y + k (x - y) maps a state y to m y + b, and y' = max(x, y + k (x - y)) maps it to
max(a, m y + b); both forms are closed under composition.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from .constants import constant

BLOCK = 32
"""Samples of a block; each recursion takes two loops of this many steps."""


def peak_envelope(x: Tensor, release: Tensor, attack: Tensor) -> Tensor:
    """Return the envelope of x, float32 [N, T]: peaks that decay with `release`, then smoothed.

    p' = max(x, p + (1 - e^(-1/release)) (x - p)), y' = y + (1 - e^(-1/attack)) (p' - y), both from
    0: the decoupled, smooth peak detector of Giannoulis, Massberg and Reiss ("Digital dynamic range
    compressor design", 2012, equation 17). The time constants are in samples [N].
    """
    n_samples = x.shape[1]
    blocks = pad(x, (0, -n_samples % BLOCK)).view(-1, BLOCK)
    rows = blocks.t().contiguous().view(BLOCK, len(x), -1)
    _hold(rows, release)
    _smooth(rows, attack)
    return rows.view(BLOCK, -1).t().reshape(len(x), -1)[:, :n_samples]


def _hold(rows: Tensor, release: Tensor) -> None:
    """Apply the first recursion in place to samples of K blocks, float32 [BLOCK, N, K]."""
    share = _share(release)
    highest, fallen = rows[0].clone(), rows[0] * share
    for row in rows[1:]:
        highest, fallen = row.maximum(highest.lerp(row, share)), fallen.lerp(row, share)
    for step, keep in _keeps(release, rows.shape[2]):
        reached = torch.addcmul(fallen[:, step:], highest[:, :-step], keep)
        highest[:, step:].copy_(highest[:, step:].maximum(reached))
        fallen[:, step:].add_(fallen[:, :-step] * keep)
    state = _before(highest.maximum(fallen))
    for row in rows:
        state = torch.maximum(row, state.lerp(row, share), out=row)


def _smooth(rows: Tensor, attack: Tensor) -> None:
    """Apply the second recursion in place, like `_hold`."""
    share = _share(attack)
    ends = rows[0] * share
    for row in rows[1:]:
        ends = ends.lerp(row, share)
    for step, keep in _keeps(attack, rows.shape[2]):
        ends[:, step:].add_(ends[:, :-step] * keep)
    state = _before(ends)
    for row in rows:
        state = torch.lerp(state, row, share, out=row)


def _share(time_constant: Tensor) -> Tensor:
    """Return by how much of the difference one sample moves the state, float32 [N, 1]."""
    return -torch.expm1(-1 / time_constant.double()).float()[:, None]


def _keeps(time_constant: Tensor, n_blocks: int) -> list[tuple[int, Tensor]]:
    """Return 1, 2, 4, … below `n_blocks`, and what is left of a state after as many blocks.

    That is float32 [N, 1].
    """
    steps = [2**i for i in range((n_blocks - 1).bit_length())]
    samples = BLOCK * constant(_doublings, time_constant.device, len(steps))
    left = torch.exp(-samples / time_constant.double()[:, None]).float()
    return list(zip(steps, left.unbind(), strict=True))


def _doublings(count: int) -> np.ndarray:
    """Return 1, 2, 4, …: int64 [count, 1, 1]."""
    return 2 ** np.arange(count)[:, None, None]


def _before(ends: Tensor) -> Tensor:
    """Return the states at the starts of blocks from those at their ends [N, K]."""
    return pad(ends[:, :-1], (1, 0))

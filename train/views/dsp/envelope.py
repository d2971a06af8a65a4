"""Envelopes that rise and fall with time constants, without a loop over time.

Time is cut into blocks, all blocks of all samples go through their recursions side by side, and
what a block does to the state it begins with is put together over the blocks by doubling (Blelloch,
1990): y' = y + k (x - y) maps the state of a block's beginning to m y + b at its end, and
y' = max(x, y + k (x - y)) maps it to max(a, m y + b); both forms are closed under composition.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 32
"""Samples of a block; the recursions take two loops of so many steps."""


def peak_envelope(x: Tensor, release: Tensor, attack: Tensor) -> Tensor:
    """Follow peaks at once, let go of them with `release`, and smooth all of it with `attack`.

    p' = max(x, p + (1 - e^(-1/release)) (x - p)), y' = y + (1 - e^(-1/attack)) (p' - y), both from
    0: the decoupled, smooth peak detector of Giannoulis, Massberg and Reiss ("Digital dynamic range
    compressor design", 2012, equation 17).

    Args:
        x: values, float32 [N, T].
        release: time constant of the fall, samples [N].
        attack: time constant of the smoothing, samples [N].

    Returns:
        Envelope, float32 [N, T].
    """
    n_samples = x.shape[1]
    blocks = pad(x, (0, -n_samples % BLOCK)).view(-1, BLOCK)
    rows = blocks.t().contiguous().view(BLOCK, len(x), -1)
    _hold(rows, release)
    _smooth(rows, attack)
    return rows.view(BLOCK, -1).t().reshape(len(x), -1)[:, :n_samples]


def _hold(rows: Tensor, release: Tensor) -> None:
    """Follow peaks in place: samples of blocks, float32 [BLOCK, N, K], time constants [N]."""
    share = _share(release)
    highest, fallen = rows[0].clone(), rows[0] * share
    for row in rows[1:]:
        highest, fallen = row.maximum(highest.lerp(row, share)), fallen.lerp(row, share)
    step = 1
    while step < rows.shape[2]:
        keep = _keep(release, BLOCK * step)
        reached = torch.addcmul(fallen[:, step:], highest[:, :-step], keep)
        highest[:, step:] = highest[:, step:].maximum(reached)
        fallen[:, step:] += fallen[:, :-step] * keep
        step *= 2
    state = _before(highest.maximum(fallen))
    for row in rows:
        state = torch.maximum(row, state.lerp(row, share), out=row)


def _smooth(rows: Tensor, attack: Tensor) -> None:
    """Smooth in place: samples of blocks, float32 [BLOCK, N, K], time constants [N]."""
    share = _share(attack)
    ends = rows[0] * share
    for row in rows[1:]:
        ends = ends.lerp(row, share)
    step = 1
    while step < rows.shape[2]:
        ends[:, step:] += ends[:, :-step] * _keep(attack, BLOCK * step)
        step *= 2
    state = _before(ends)
    for row in rows:
        state = torch.lerp(state, row, share, out=row)


def _share(time_constant: Tensor) -> Tensor:
    """How much of the way one sample goes, float32 [N, 1]."""
    return -torch.expm1(-1 / time_constant.double()).float()[:, None]


def _keep(time_constant: Tensor, samples: int) -> Tensor:
    """How much of a state is left after some samples, float32 [N, 1]."""
    return torch.exp(-samples / time_constant.double()).float()[:, None]


def _before(ends: Tensor) -> Tensor:
    """Turn the states [N, K] of the blocks' ends into those of their beginnings."""
    return pad(ends[:, :-1], (1, 0))

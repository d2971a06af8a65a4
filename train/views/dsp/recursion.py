"""Recursive filters without a loop over time: a matrix per block, block ends by doubling.

A linear recursion s' = A s + B x, y = C s + D x over a block of samples is one matrix, different
for every sample of the batch; the states at the blocks' ends follow such a recursion, too, which
log2(blocks) steps solve (Blelloch, 1990). The result is exact, without the truncated tails and
wrapped ends of filtering by spectra.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 64


class Recursion(NamedTuple):
    """One linear recursion per sample, float64: s' = A s + B x, y = C s + D x.

    A is [N, S, S], B and C are [N, S], D is [N].
    """

    a: Tensor
    b: Tensor
    c: Tensor
    d: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Filter waveforms, float32 [N, T], from a state of zeros.

        Matrices and states are float64, the sums over a block float32.
        """
        n_samples = x.shape[1]
        blocks = pad(x, (0, -n_samples % BLOCK)).unflatten(1, (-1, BLOCK))
        powers = _powers(self.a, BLOCK)
        reach = (powers @ self.b[:, None, :, None])[..., 0]  # A^i B [N, L, S]
        response = torch.cat([self.d[:, None], (reach @ self.c[..., None])[:, :-1, 0]], 1)
        inputs = (blocks @ reach.flip(1).to(x.dtype)).double()
        states = scan(inputs, self.a @ powers[:, -1])
        before = pad(states[:, :-1], (0, 0, 1, 0)).to(x.dtype)
        ringing = (self.c[:, None, None] @ powers)[:, :, 0].mT.to(x.dtype)  # C A^i [N, S, L]
        answers = blocks @ toeplitz(response.to(x.dtype))
        return answers.baddbmm_(before, ringing).flatten(1)[:, :n_samples]

    def then(self, after: "Recursion") -> "Recursion":
        """Return this recursion followed by another: one recursion with the states of both."""
        taken = after.b[:, :, None] * self.c[:, None]  # from the states here to those of `after`
        return Recursion(
            a=torch.cat([pad(self.a, (0, after.a.shape[2])), torch.cat([taken, after.a], 2)], 1),
            b=torch.cat([self.b, after.b * self.d[:, None]], 1),
            c=torch.cat([self.c * after.d[:, None], after.c], 1),
            d=self.d * after.d,
        )


def scan(inputs: Tensor, a: Tensor) -> Tensor:
    """Return all states of s' = A s + u: inputs u [N, K, S] and A [N, S, S] to s [N, K, S]."""
    states, step = inputs.clone(), 1
    while step < states.shape[1]:
        states[:, step:].add_(states[:, :-step] @ a.mT)
        a, step = a @ a, 2 * step
    return states


def toeplitz(response: Tensor) -> Tensor:
    """Return causal filters as matrices for y = x @ matrix: [N, L] to [N, L, L]."""
    length = response.shape[1]
    rows = pad(response, (length - 1, 0)).unfold(1, length, 1)  # row i begins L - 1 - i early
    return rows.flip(1)


def _powers(a: Tensor, count: int) -> Tensor:
    """Return A^0 to A^(count - 1): [N, S, S] to [N, count, S, S]."""
    powers = torch.eye(a.shape[1], dtype=a.dtype, device=a.device).expand(len(a), 1, -1, -1)
    while powers.shape[1] < count:
        powers = torch.cat([powers, powers @ a[:, None]], 1)
        a = a @ a
    return powers[:, :count]

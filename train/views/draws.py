"""Counter-based random numbers: one independent stream per sample, computed on its device.

The n-th number of a stream is a hash of its key and n (SplitMix64, Steele et al., 2014), so what a
clip draws depends neither on its place in the batch, nor on the number of devices, nor on whether
the run was resumed.
"""

import hashlib
import math

import numpy as np
import torch
from torch import Tensor

MAX_INTEGERS = 2**31

_GAMMA = 0x9E3779B97F4A7C15
_FACTORS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


class Draws:
    """Streams of random numbers, one per key of `sample_keys`, int64 [N].

    Every call takes the next number of each stream.
    """

    def __init__(self, keys: Tensor) -> None:
        if keys.dtype != torch.int64 or keys.ndim != 1:
            raise ValueError(
                f"keys are {keys.dtype} {list(keys.shape)}; give int64 [N], see sample_keys"
            )
        self._keys = keys
        self._calls = 0

    def substream(self, name: str) -> "Draws":
        """Return streams that are independent of these and of those with any other name."""
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        return Draws(_mix(self._keys ^ _signed(int.from_bytes(digest, "little"))))

    def uniform(self, low: float, high: float) -> Tensor:
        """Draw from U(low, high): float32 [N], multiples of 2^-24 of the span, `high` excluded."""
        unit = _shift(self._next(), 40).to(torch.float32) * 2**-24
        # Rounding of the last multiples may reach `high`.
        last = np.nextafter(np.float32(high), np.float32(low))
        return (unit * (high - low) + low).clamp(max=float(last))

    def integers(self, high: Tensor | int) -> Tensor:
        """Draw integers uniformly from [0, high): int64 [N].

        The bound is in [1, 2^31], for all samples or int64 [N]. Values of a tensor are not checked,
        as that would wait for the device.
        """
        if isinstance(high, int) and not 1 <= high <= MAX_INTEGERS:
            raise ValueError(f"integers below {high} were asked for; choose from [1, 2^31]")
        return (_shift(self._next(), 32) * high) >> 32

    def normals(self, count: int) -> Tensor:
        """Draw `count` numbers of N(0, 1) per sample, float32 [N, count], by Box and Muller.

        They are a separate stream, keyed by one number of the sample's; the first ones do not
        depend on `count`.
        """
        words = torch.arange(1, (count + 1) // 2 + 1, device=self._keys.device) * _signed(_GAMMA)
        bits = _mix(self._next()[:, None] + words)
        # 1 - u lies in (0, 1], so the logarithm is finite.
        radius = (1 - _shift(bits, 40).to(torch.float32) * 2**-24).log_().mul_(-2).sqrt_()
        angle = (bits & 0xFFFFFF).to(torch.float32) * (2 * math.pi * 2**-24)
        pairs = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)
        return pairs.flatten(1)[:, :count]

    def _next(self) -> Tensor:
        """Draw 64 random bits per sample, int64 [N]."""
        self._calls += 1
        return _mix(self._keys + _signed(self._calls * _GAMMA))


def sample_keys(seed: int, epoch: Tensor, clip: Tensor, view: int) -> Tensor:
    """Hash what identifies a view of a clip into the key of its random stream, int64 [N].

    Args:
        seed: of the run.
        epoch: of every sample, int64 [N] or a scalar tensor.
        clip: index of every sample's clip in the data set, int64 [N].
        view: 0 for view A, 1 for view B.
    """
    keys = _mix(torch.full_like(clip, _signed(seed + _GAMMA)))
    for part in (epoch, clip, view):
        keys = _mix((keys ^ part) + _signed(_GAMMA))
    return keys


def _mix(bits: Tensor) -> Tensor:
    """Apply the finaliser of SplitMix64, int64 to int64."""
    for shift, factor in _FACTORS:
        bits = (bits ^ _shift(bits, shift)) * _signed(factor)
    return bits ^ _shift(bits, 31)


def _shift(bits: Tensor, places: int) -> Tensor:
    """Shift right and fill with zeros; int64's own shift repeats the sign."""
    return (bits >> places) & ((1 << (64 - places)) - 1)


def _signed(word: int) -> int:
    """Wrap an integer into the range of int64."""
    return (word + 2**63) % 2**64 - 2**63

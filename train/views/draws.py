"""Counter-based random numbers: one independent stream per sample and view, made on the device.

The n-th number of a stream is a hash of its key and n (SplitMix64, Steele et al., 2014), so what a
clip draws depends neither on its place in the batch, nor on the number of devices, nor on whether
the run was resumed. The keys of a batch are hashed on the host and travel with it; all numbers of a
chain of views are drawn at once.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

MAX_INTEGERS = 2**31

_GAMMA = 0x9E3779B97F4A7C15
_FACTORS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


Bits = TypeVar("Bits", Tensor, np.ndarray)
"""64 bits each, int64."""


class Range(NamedTuple):
    """Numbers to draw uniformly from [low, high), or on a logarithmic scale."""

    low: float
    high: float
    octaves: bool = False


WORD = None
"""Instead of a Range: 64 random bits, int64, for `below` and `normals`."""
Numbers = dict[str, Range | None]
"""What a view draws for every sample, in this order."""


class Draws(nn.Module):
    """Draw the numbers of several views at once, each view from streams of its own.

    Args:
        views: what each draws, by its name. What a view gets depends on no other view.
    """

    streams: Tensor
    places: Tensor
    bounds: Tensor

    def __init__(self, views: Mapping[str, Numbers], device: torch.device | None = None) -> None:
        super().__init__()
        kinds = {(view, name): each for view, of in views.items() for name, each in of.items()}
        order = sorted(kinds, key=lambda key: _rank(kinds[key]))
        self.views = tuple(views)
        self.rows = {key: order.index(key) for key in kinds}
        """Where each number is: octaves come first, then the other ranges, then words."""
        self.n_octaves, self.n_ranges = (
            sum(_rank(kind) <= rank for kind in kinds.values()) for rank in (0, 1)
        )
        place = {(view, name): n for view, of in views.items() for n, name in enumerate(of, 1)}
        ranges = [each for key in order if (each := kinds[key]) is not WORD]
        constants: dict[str, np.ndarray] = {
            "streams": np.array([_hash(view) for view, _ in order], np.int64),
            "places": np.array([_signed(place[key] * _GAMMA) for key in order], np.int64),
            "bounds": np.array([_bounds(each) for each in ranges], np.float32).reshape(-1, 5).T,
        }
        for name, value in constants.items():
            made = torch.from_numpy(np.expand_dims(value, -1).copy()).to(device)
            self.register_buffer(name, made, persistent=False)

    def forward(self, keys: Tensor) -> dict[str, dict[str, Tensor]]:
        """Draw for the samples with these keys, int64 [N], see `sample_keys`.

        Returns:
            Numbers by view and name, [N] each: float32, in multiples of 2^-24 of the range, without
            its upper end, or of the range's logarithm; or words, int64.
        """
        if keys.dtype != torch.int64 or keys.ndim != 1:
            raise ValueError(
                f"keys are {keys.dtype} {list(keys.shape)}; give int64 [N], see sample_keys"
            )
        words = _mix(_mix(keys ^ self.streams) + self.places)
        units = shift(words[: self.n_ranges], 40).to(torch.float32) * 2**-24
        low, width, last, least, most = self.bounds
        values = torch.minimum(units * width + low, last)  # rounding may have reached the end
        # In float64, since rounded float32 is then the same for every place in the tensor.
        values[: self.n_octaves].copy_(values[: self.n_octaves].double().exp2_())
        values = values.clamp(least, most)
        found: dict[str, dict[str, Tensor]] = {view: {} for view in self.views}
        for (view, name), row in self.rows.items():
            found[view][name] = values[row] if row < self.n_ranges else words[row]
        return found


def sample_keys(seed: int, epochs: np.ndarray, clips: np.ndarray) -> np.ndarray:
    """Hash what identifies the views of clips into the keys of their random streams.

    Args:
        seed: of the run.
        epochs: of every clip, integers [N].
        clips: index of every clip in the data set, integers [N].

    Returns:
        int64 [2, N]: of views A, then of views B.
    """
    views = np.arange(2)[:, None]
    keys = _mix(np.array([_signed(seed + _GAMMA)]))
    for part in (epochs, clips, views):
        keys = _mix((keys ^ part.astype(np.int64)) + _signed(_GAMMA))
    return keys


def below(words: Tensor, high: Tensor | int) -> Tensor:
    """Turn words [N] into uniform integers from [0, high): int64 [N].

    The bound is in [1, 2^31], for all samples or int64 [N]; it is not checked, as that would wait
    for the device.
    """
    return (shift(words, 32) * high) >> 32


def normals(words: Tensor, count: int) -> Tensor:
    """Make `count` numbers of N(0, 1) of every word, float32 [N, count], by Box and Muller.

    The first ones do not depend on `count`.
    """
    steps = torch.arange(1, (count + 1) // 2 + 1, device=words.device) * _signed(_GAMMA)
    bits = _mix(words[:, None] + steps)
    # 1 - u lies in (0, 1], so the logarithm is finite.
    radius = (1 - shift(bits, 40).to(torch.float32) * 2**-24).log_().mul_(-2).sqrt_()
    angle = (bits & 0xFFFFFF).to(torch.float32) * (2 * math.pi * 2**-24)
    pairs = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)
    return pairs.flatten(1)[:, :count]


def shift(bits: Bits, places: int) -> Bits:
    """Shift right and fill with zeros; int64's own shift repeats the sign."""
    return (bits >> places) & ((1 << (64 - places)) - 1)


def _rank(kind: Range | None) -> int:
    return 2 if kind is WORD else int(not kind.octaves)


def _bounds(range_: Range) -> tuple[float, ...]:
    """Return start and width of the uniform numbers, their last, and the bounds of the result."""
    low, high, octaves = range_
    if octaves:
        low, high = math.log2(low), math.log2(high)
    last = float(np.nextafter(np.float32(high), np.float32(low)))
    bounds = (range_.low, range_.high) if octaves else (-math.inf, math.inf)
    return low, high - low, last, *bounds


def _hash(name: str) -> int:
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return _signed(int.from_bytes(digest, "little"))


def _mix(bits: Bits) -> Bits:
    """Apply the finaliser of SplitMix64, int64 to int64."""
    for places, factor in _FACTORS:
        bits = (bits ^ shift(bits, places)) * _signed(factor)
    return bits ^ shift(bits, 31)


def _signed(word: int) -> int:
    """Wrap an integer into the range of int64."""
    return (word + 2**63) % 2**64 - 2**63

"""Second-order filters of waveforms, with a different response for every sample.

The responses are those of the analogue prototypes under the bilinear transform with the frequency
kept (R. Bristow-Johnson, "Cookbook formulae for audio equalizer biquad filter coefficients"). The
recursion is the state-variable form with trapezoidal integrators (A. Simper, "Linear trapezoidal
integrated state variable filter", 2013): the same transfer functions, with states that stay
accurate in float32 at low frequencies, too. It is exact: the response is not truncated.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from .recursion import BLOCK, Recursion

Kind = Literal["low-pass", "high-pass", "band-pass", "peak", "low shelf", "high shelf"]

TOP = 0.49
"""Highest frequency of a filter, in sample rates; higher ones are clamped to it."""
REACH = 64
"""Samples on either side that the bandwidth filter reads."""


def decibels(db: Tensor) -> Tensor:
    """Return decibels as a factor of amplitude."""
    return torch.pow(10.0, db / 20)


def second_order(
    x: Tensor,
    kind: Kind,
    frequency_hz: Tensor,
    q: Tensor,
    gain_db: Tensor | None = None,
    *,
    sample_rate: int,
) -> Tensor:
    """Filter waveforms, float32 [N, T]. A band-pass has 0 dB at its centre.

    Args:
        frequency_hz: corner or centre [N], above 0; at most TOP of the sample rate.
        q: quality [N]: 0.7071 makes a pass flat; the centre divided by the bandwidth otherwise.
        gain_db: of a peak or a shelf [N].
    """
    level_db = torch.zeros_like(q) if gain_db is None else gain_db
    (section,) = sections((kind,), frequency_hz[None], q[None], level_db[None], sample_rate)
    return section(x)


def sections(
    kinds: Sequence[Kind], frequency_hz: Tensor, q: Tensor, gain_db: Tensor, sample_rate: int
) -> list[Recursion]:
    """Return the recursions of filters of these kinds, numbers [kinds, N]; `then` chains them."""
    amplitudes = decibels(gain_db.double() / 2)
    corners = (math.pi * (frequency_hz.double() / sample_rate).clamp(max=TOP)).tan()
    widths = 1 / q.double()
    shaped = [
        torch.stack(_prototype(kind, *numbers))
        for kind, *numbers in zip(kinds, corners, widths, amplitudes, strict=True)
    ]
    whole = _state_variable(*torch.stack(shaped, 1))
    return [Recursion(*part) for part in zip(*whole, strict=True)]


def _prototype(kind: Kind, g: Tensor, k: Tensor, amplitude: Tensor) -> tuple[Tensor, ...]:
    """Return a filter's g, k, and shares of the input, the band-pass and the low-pass in it."""
    zero, one = torch.zeros_like(k), torch.ones_like(k)
    match kind:
        case "low-pass":
            return g, k, zero, zero, one
        case "high-pass":
            return g, k, one, -k, -one
        case "band-pass":
            return g, k, zero, k, zero
        case "peak":
            k = k / amplitude
            return g, k, one, k * (amplitude.square() - 1), zero
        case "low shelf":
            return g / amplitude.sqrt(), k, one, k * (amplitude - 1), amplitude.square() - 1
        case "high shelf":
            power = amplitude.square()
            return g * amplitude.sqrt(), k, power, k * (1 - amplitude) * amplitude, 1 - power


def _state_variable(g: Tensor, k: Tensor, m0: Tensor, m1: Tensor, m2: Tensor) -> Recursion:
    """Return the recursions of filters in state-variable form, numbers [kinds, N]."""
    a1 = 1 / (1 + g * (g + k))
    a2, a3 = g * a1, g * g * a1
    return Recursion(
        a=torch.stack([2 * a1 - 1, -2 * a2, 2 * a2, 1 - 2 * a3], -1).unflatten(-1, (2, 2)),
        b=torch.stack([2 * a2, 2 * a3], -1),
        c=torch.stack([m1 * a1 + m2 * a2, m2 - m1 * a2 - m2 * a3], -1),
        d=m0 + m1 * a2 + m2 * a3,
    )


def limit_bandwidth(x: Tensor, bandwidth_hz: Tensor, sample_rate: int) -> Tensor:
    """Remove from waveforms [N, T] what lower sample rates cannot contain, by a sharp low-pass.

    A sinc under a Hann window of 131 samples, without delay: 6 dB down at the edge, and from 1/64
    of the sample rate above it at least 40 dB (at 16 kHz from 250 Hz above). `bandwidth_hz` [N] is
    half the lower sample rate; half of `sample_rate` and more change nothing.
    """
    taps = torch.arange(-REACH, REACH + 1, device=x.device)
    share = (2 * bandwidth_hz / sample_rate).clamp(max=1)[:, None]
    window = torch.hann_window(len(taps) + 2, periodic=False, device=x.device)[1:-1]
    response = share * torch.sinc(share * taps) * window
    return convolve_centred(x, response / response.sum(1, keepdim=True))


def convolve_centred(x: Tensor, response: Tensor) -> Tensor:
    """Convolve waveforms [N, T] with short symmetric filters [N, odd], by one matrix per block."""
    n_samples, reach = x.shape[1], response.shape[1] // 2
    frames = pad(x, (reach, reach + -n_samples % BLOCK)).unfold(1, BLOCK + 2 * reach, BLOCK)
    shifted = pad(response, (BLOCK - 1, BLOCK - 1)).unfold(1, BLOCK + 2 * reach, 1).flip(1)
    return (frames @ shifted.mT).flatten(1)[:, :n_samples]

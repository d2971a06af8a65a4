"""Views that change the level of a waveform: gain, polarity, fades, clipping, compression."""

import math

import torch
from torch import Tensor

from .base import Drawn, ViewContext, WaveView, span
from .dsp.envelope import peak_envelope
from .dsp.filter import decibels

QUIETEST = 1e-6
KNEE_DB = 6.0
"""Width of a compressor's quadratic knee around the threshold."""
OCTAVES = math.log2(10) / 20
"""Doublings of the amplitude per decibel, as log2 and exp2 are the fast functions."""


def compress(
    x: Tensor,
    threshold_db: Tensor,
    ratio: Tensor,
    attack_ms: Tensor,
    release_ms: Tensor,
    sample_rate: int,
) -> Tensor:
    """Reduce the level of loud passages of waveforms, float32 [N, T].

    A feed-forward compressor with a decoupled, smooth peak detector after its gain computer, in
    decibels (Giannoulis, Massberg and Reiss, "Digital dynamic range compressor design", 2012,
    equations 4, 17 and 23).

    Args:
        x: waveforms; full scale is 1.
        threshold_db: level at which the reduction begins, dB of full scale [N].
        ratio: dB of input above the threshold per dB of output [N]; 1 changes nothing.
        attack_ms: time constant of a growing reduction [N].
        release_ms: time constant of a falling one, to which the attack's is added [N].
    """
    knee = KNEE_DB * OCTAVES
    over = x.abs().clamp_min_(QUIETEST).log2_()
    over.sub_((threshold_db * OCTAVES - knee / 2)[:, None]).clamp_min_(0)
    bend = over.clamp(max=knee)
    wanted = over.sub_(bend).addcmul_(bend, bend, value=0.5 / knee)
    attack, release = (t * sample_rate / 1000 for t in (attack_ms, release_ms))
    # Scaling the input scales the envelope, so the ratio is applied to its result.
    reduction = peak_envelope(wanted, release, attack).mul_((1 / ratio - 1)[:, None])
    return reduction.exp2_().mul_(x)


class Compression(WaveView, name="compression"):
    """Compress a clip's dynamic range."""

    threshold_db: tuple[float, float] = span(-40, -15, inside=(-100, 0), mild=0)
    """Lowest and highest level at which the reduction begins, dB of full scale."""
    ratio: tuple[float, float] = span(1.5, 8, inside=(1, 100), mild=1, octaves=True)
    """Smallest and largest ratio: dB of input above the threshold per dB of output."""
    attack_ms: tuple[float, float] = span(1, 20, inside=(0.1, 1000), octaves=True)
    """Shortest and longest time constant of the attack, ms."""
    release_ms: tuple[float, float] = span(30, 300, inside=(1, 10_000), octaves=True)
    """Shortest and longest time constant of the release, ms."""

    text = (
        "compressed above {threshold_db:.0f} dB by {ratio:.1f}:1, "
        "attack {attack_ms:.1f} ms, release {release_ms:.0f} ms"
    )

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        return compress(x, sample_rate=context.sample_rate, **drawn)


class Gain(WaveView, name="gain"):
    """Make a clip louder or softer."""

    gain_db: tuple[float, float] = span(-12, 6, inside=(-120, 60), mild=0)
    """Smallest and largest gain, dB."""

    text = "gain {gain_db:+.1f} dB"

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        return x * decibels(drawn["gain_db"])[:, None]


class Polarity(WaveView, name="polarity"):
    """Invert the sign of a clip."""

    text = "polarity inverted"

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        return -x


class Fade(WaveView, name="fade"):
    """Fade a clip in from zero and out to zero; the gain at time t is (t / length)^curve."""

    in_s: tuple[float, float] = span(0, 0.5, inside=(0, math.inf), mild=0)
    """Shortest and longest fade in, seconds."""
    out_s: tuple[float, float] = span(0, 0.5, inside=(0, math.inf), mild=0)
    """Shortest and longest fade out, seconds."""
    curve: tuple[float, float] = span(0.5, 2, inside=(0.1, 10), octaves=True)
    """Range of the ramp's exponent: 1 is a straight line, 2 starts slowly, 0.5 starts fast."""

    text = "fade in {in_s:.2f} s, out {out_s:.2f} s, curve {curve:.2f}"

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        after = torch.arange(x.shape[1], device=x.device) / context.sample_rate
        before = after.flip(0)  # from the last sample
        sides = (after, drawn["in_s"][:, None]), (before, drawn["out_s"][:, None])
        shortest = 0.5 / context.sample_rate
        ramps = [(time / length.clamp_min(shortest)).clamp(max=1) for time, length in sides]
        # A fade of no length must keep the first sample too.
        head, tail = (
            torch.where(length > 0, ramp, 1.0)
            for ramp, (_, length) in zip(ramps, sides, strict=True)
        )
        return x * (head * tail).pow(drawn["curve"][:, None])


class Clipping(WaveView, name="clipping"):
    """Clip the peaks, as an overdriven microphone does."""

    below_peak_db: tuple[float, float] = span(0, 15, inside=(0, 120), mild=0)
    """Smallest and largest distance of the clipping level below the clip's peak, dB."""

    text = "clipped {below_peak_db:.1f} dB below the peak"

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        level = (x.abs().amax(1) * decibels(-drawn["below_peak_db"]))[:, None]
        return x.minimum(level).maximum(-level)

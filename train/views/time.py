"""Views that change the time or the pitch of a waveform: shift, mask, stretch, pitch shift."""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from .base import Drawn, ViewContext, WaveView, span
from .draws import Numbers, Range
from .dsp.vocoder import needed_samples, pitch_shift, time_stretch

EDGE_MS = 2.0
"""Length of a mask's ramps, which prevent clicks."""


class TimeShift(WaveView, name="time-shift"):
    """Move a clip in time and fill up with zeros."""

    shift_ms: tuple[float, float] = span(-200, 200, mild=0)
    """Furthest shift to earlier (negative) and to later, ms."""

    text = "shifted by {shift_ms:+.0f} ms"

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        n_samples = x.shape[1]
        by = (drawn["shift_ms"] * context.sample_rate / 1000).round().to(torch.int64)
        windows = pad(x, (n_samples, n_samples)).unfold(1, n_samples, 1)
        places = n_samples - by.clamp(-n_samples, n_samples)
        return windows[torch.arange(len(x), device=x.device), places]


class TimeMask(WaveView, name="time-mask"):
    """Silence a piece of a clip, with a linear ramp at either end."""

    length_ms: tuple[float, float] = span(20, 200, inside=(0, math.inf), mild=0)
    """Shortest and longest piece, ms; at most the whole clip is silenced."""

    text = "{length_ms:.0f} ms silenced, at {start:.0%}"

    def numbers(self) -> Numbers:
        """Return the range of `length_ms`, and `start` from 0 (at the beginning) to 1 (the end)."""
        return super().numbers() | {"start": Range(0, 1)}

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        length = (drawn["length_ms"] * context.sample_rate / 1000).clamp(max=x.shape[1])[:, None]
        begin = drawn["start"][:, None] * (x.shape[1] - length)
        time = torch.arange(x.shape[1], device=x.device)
        inside = torch.minimum(time - begin, begin + length - time)
        return x * (1 - inside / (EDGE_MS * context.sample_rate / 1000)).clamp(0, 1)


class TimeStretch(WaveView, name="time-stretch"):
    """Play a clip from its start faster or slower at the same pitch.

    A clip that is too short to be played faster is padded with zeros.
    """

    rate: tuple[float, float] = span(0.8, 1.25, inside=(0.25, 4), mild=1, octaves=True)
    """Lowest and highest speed; 2 is twice as fast."""

    text = "speed x {rate:.2f}"

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        return time_stretch(x, drawn["rate"], context.shape[0], context.sample_rate)

    def needed(self, n_out: int, sample_rate: int) -> int:
        return needed_samples(n_out, max(1, self.rate[1]), sample_rate)


class PitchShift(WaveView, name="pitch-shift"):
    """Play a clip higher or lower at the same speed."""

    cents: tuple[float, float] = span(-300, 300, inside=(-2400, 2400), mild=0)
    """Furthest shift down (negative) and up, cents: 100 are a semitone, 1200 an octave."""

    text = "pitch {cents:+.0f} cents"

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        return pitch_shift(x, drawn["cents"], context.sample_rate, self.cents[1])

"""Views that change the time or the pitch of a waveform: shift, mask, stretch, pitch shift."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from .base import Drawn, Setting, WaveView, check_range, uniform_in_octaves
from .draws import Draws
from .dsp.vocoder import needed_samples, pitch_shift, time_stretch

EDGE_MS = 2.0
"""Length of a mask's ramps, so that it does not click."""


def shift(x: Tensor, shift_ms: Tensor, sample_rate: int) -> Tensor:
    """Move waveforms [N, T] later by `shift_ms` [N], or earlier; zeros come in at the end."""
    n_samples = x.shape[1]
    by = (shift_ms * sample_rate / 1000).round().to(torch.int64).clamp(-n_samples, n_samples)
    windows = pad(x, (n_samples, n_samples)).unfold(1, n_samples, 1)
    return windows[torch.arange(len(x), device=x.device), n_samples - by]


def mask(x: Tensor, start: Tensor, length_ms: Tensor, sample_rate: int) -> Tensor:
    """Silence a piece of waveforms.

    Args:
        x: waveforms, float32 [N, T].
        start: where it begins [N], as a share of the places where it fits, 0 to 1.
        length_ms: its length [N], with a straight ramp of 2 ms at either end; at most all of T.
        sample_rate: Hz.

    Returns:
        Waveforms, float32 [N, T].
    """
    length = (length_ms * sample_rate / 1000).clamp(max=x.shape[1])[:, None]
    begin = start[:, None] * (x.shape[1] - length)
    time = torch.arange(x.shape[1], device=x.device)
    inside = torch.minimum(time - begin, begin + length - time)
    return x * (1 - inside / (EDGE_MS * sample_rate / 1000)).clamp(0, 1)


@dataclass(frozen=True, kw_only=True)
class TimeShift(WaveView):
    """Move a clip in time; what leaves is lost, and zeros come in."""

    shift_ms: tuple[float, float] = (-200.0, 200.0)
    """Furthest shift to earlier and to later, ms."""

    text: ClassVar[str] = "shifted by {shift_ms:+.0f} ms"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("shift_ms", self.shift_ms)

    def parameters(self, draws: Draws) -> Drawn:
        """Draw `shift_ms`."""
        return {"shift_ms": draws.uniform(*self.shift_ms)}

    def change(self, x: Tensor, drawn: Drawn, setting: Setting) -> Tensor:
        """Shift."""
        return shift(x, drawn["shift_ms"], setting.sample_rate)


@dataclass(frozen=True, kw_only=True)
class TimeMask(WaveView):
    """Silence a piece of a clip."""

    length_ms: tuple[float, float] = (20.0, 200.0)
    """Shortest and longest piece, ms."""

    text: ClassVar[str] = "{length_ms:.0f} ms silenced, at {start:.0%}"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("length_ms", self.length_ms, 0)

    def parameters(self, draws: Draws) -> Drawn:
        """Draw `start` and `length_ms`."""
        return {"start": draws.uniform(0, 1), "length_ms": draws.uniform(*self.length_ms)}

    def change(self, x: Tensor, drawn: Drawn, setting: Setting) -> Tensor:
        """Mask."""
        return mask(x, drawn["start"], drawn["length_ms"], setting.sample_rate)


@dataclass(frozen=True, kw_only=True)
class TimeStretch(WaveView):
    """Play a clip faster or slower at the same pitch.

    The result begins where the clip begins. A clip without samples to spare ends in zeros when it
    is played faster.
    """

    rate: tuple[float, float] = (0.8, 1.25)
    """Lowest and highest speed; 2 is twice as fast."""

    text: ClassVar[str] = "speed x {rate:.2f}"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("rate", self.rate, 0.25, 4)

    def parameters(self, draws: Draws) -> Drawn:
        """Draw `rate`."""
        return {"rate": uniform_in_octaves(draws, *self.rate)}

    def change(self, x: Tensor, drawn: Drawn, setting: Setting) -> Tensor:
        """Stretch to `setting.n_out`."""
        n_out = x.shape[1] if setting.n_out is None else setting.n_out
        return time_stretch(x, drawn["rate"], n_out, setting.sample_rate)

    def needed_samples(self, n_out: int, sample_rate: int) -> int:
        """Count the samples that the highest speed reads."""
        return needed_samples(n_out, max(1, self.rate[1]), sample_rate)


@dataclass(frozen=True, kw_only=True)
class PitchShift(WaveView):
    """Play a clip higher or lower at the same speed."""

    cents: tuple[float, float] = (-300.0, 300.0)
    """Furthest shift down and up, cents: 100 are a semitone, 1200 an octave."""

    text: ClassVar[str] = "pitch {cents:+.0f} cents"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("cents", self.cents, -2400, 2400)

    def parameters(self, draws: Draws) -> Drawn:
        """Draw `cents`."""
        return {"cents": draws.uniform(*self.cents)}

    def change(self, x: Tensor, drawn: Drawn, setting: Setting) -> Tensor:
        """Shift the pitch."""
        return pitch_shift(x, drawn["cents"], setting.sample_rate, self.cents[1])

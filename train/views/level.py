"""Views that change the level of a waveform: gain, polarity, fades, clipping."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import (
    Drawn,
    Setting,
    WaveView,
    check_range,
    decibels,
    uniform_in_octaves,
)
from .draws import Draws


def gain(x: Tensor, gain_db: Tensor) -> Tensor:
    """Amplify waveforms [N, T] by `gain_db` [N]."""
    return x * decibels(gain_db)[:, None]


def fade(x: Tensor, in_s: Tensor, out_s: Tensor, curve: Tensor, sample_rate: int) -> Tensor:
    """Fade waveforms in from zero and out to zero.

    The amplitude at time t of a fade is (t / length)^curve.

    Args:
        x: waveforms, float32 [N, T].
        in_s: length of the fade in, seconds [N]; 0 for none.
        out_s: length of the fade out, seconds [N].
        curve: shape of the ramp [N]: 1 is a straight line, more starts slowly, less starts fast.
        sample_rate: Hz.

    Returns:
        Waveforms, float32 [N, T].
    """
    after = torch.arange(x.shape[1], device=x.device) / sample_rate
    before = after.flip(0)  # from the last sample
    ramps = [
        (time / length.clamp_min(0.5 / sample_rate)[:, None]).clamp(max=1)
        for time, length in ((after, in_s), (before, out_s))
    ]
    # A fade of no length must keep the first sample too.
    ramps = [torch.where(s[:, None] > 0, r, 1.0) for s, r in zip((in_s, out_s), ramps, strict=True)]
    return x * (ramps[0] * ramps[1]).pow(curve[:, None])


def clip(x: Tensor, below_peak_db: Tensor) -> Tensor:
    """Cut waveforms [N, T] off at a level given in dB below each one's peak [N]."""
    peak = x.abs().amax(1)
    level = (peak * decibels(-below_peak_db))[:, None]
    return x.minimum(level).maximum(-level)


@dataclass(frozen=True, kw_only=True)
class Gain(WaveView):
    """Make a clip louder or softer."""

    gain_db: tuple[float, float] = (-12.0, 6.0)
    """Smallest and largest gain, dB."""

    text: ClassVar[str] = "gain {gain_db:+.1f} dB"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("gain_db", self.gain_db, -120, 60)

    def parameters(self, draws: Draws) -> Drawn:
        """Draw `gain_db`."""
        return {"gain_db": draws.uniform(*self.gain_db)}

    def change(self, x: Tensor, drawn: Drawn, setting: Setting) -> Tensor:
        """Amplify."""
        return gain(x, drawn["gain_db"])


@dataclass(frozen=True, kw_only=True)
class Polarity(WaveView):
    """Turn the sign of a clip."""

    text: ClassVar[str] = "polarity turned"

    def change(self, x: Tensor, drawn: Drawn, setting: Setting) -> Tensor:
        """Negate."""
        return -x


@dataclass(frozen=True, kw_only=True)
class Fade(WaveView):
    """Fade a clip in and out."""

    in_s: tuple[float, float] = (0.0, 0.5)
    """Shortest and longest fade in, seconds."""
    out_s: tuple[float, float] = (0.0, 0.5)
    """Shortest and longest fade out, seconds."""
    curve: tuple[float, float] = (0.5, 2.0)
    """Range of the ramp's exponent: 1 is a straight line, 2 starts slowly, 0.5 fast."""

    text: ClassVar[str] = "fade in {in_s:.2f} s, out {out_s:.2f} s, curve {curve:.2f}"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("in_s", self.in_s, 0)
        check_range("out_s", self.out_s, 0)
        check_range("curve", self.curve, 0.1, 10)

    def parameters(self, draws: Draws) -> Drawn:
        """Draw `in_s`, `out_s` and `curve`."""
        return {
            "in_s": draws.uniform(*self.in_s),
            "out_s": draws.uniform(*self.out_s),
            "curve": uniform_in_octaves(draws, *self.curve),
        }

    def change(self, x: Tensor, drawn: Drawn, setting: Setting) -> Tensor:
        """Fade."""
        return fade(x, drawn["in_s"], drawn["out_s"], drawn["curve"], setting.sample_rate)


@dataclass(frozen=True, kw_only=True)
class Clipping(WaveView):
    """Cut the peaks off, as an overdriven microphone does."""

    below_peak_db: tuple[float, float] = (0.0, 15.0)
    """Smallest and largest distance of the clipping level under the clip's peak, dB."""

    text: ClassVar[str] = "clipped {below_peak_db:.1f} dB below the peak"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("below_peak_db", self.below_peak_db, 0, 120)

    def parameters(self, draws: Draws) -> Drawn:
        """Draw `below_peak_db`."""
        return {"below_peak_db": draws.uniform(*self.below_peak_db)}

    def change(self, x: Tensor, drawn: Drawn, setting: Setting) -> Tensor:
        """Clip."""
        return clip(x, drawn["below_peak_db"])

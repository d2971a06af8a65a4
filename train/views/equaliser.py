"""Views that filter a waveform: passes, an equaliser, the bandwidth of a lower sample rate."""

import functools
from typing import Any, cast

import torch
from torch import Tensor

from .base import Drawn, ViewContext, WaveView, number, span
from .draws import Draws
from .dsp.filter import Kind, limit_bandwidth, second_order, section
from .dsp.recursion import Recursion

FLAT = 0.5**0.5
"""Quality of a pass whose response has no peak."""


class Pass(WaveView):
    """Pass a part of the spectrum, with a slope of 12 dB per octave; its name is the kind."""

    frequency_hz: tuple[float, float] = span(100, 7000, inside=(1, 1e6), octaves=True)
    """Lowest and highest corner, Hz; all octaves are equally likely."""
    q: tuple[float, float] = span(FLAT, FLAT, inside=(0.1, 100), octaves=True)
    """Range of the quality: 0.71 is flat, more makes a peak at the corner."""

    text = "{name} at {frequency_hz:.0f} Hz"

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        response = cast(Kind, self.name), drawn["frequency_hz"], drawn["q"]
        return second_order(x, *response, sample_rate=context.sample_rate)


class LowPass(Pass, name="low-pass"):
    """Remove high frequencies."""

    frequency_hz: tuple[float, float] = span(800, 7000, inside=(1, 1e6), mild=8000, octaves=True)
    """Lowest and highest corner, Hz; all octaves are equally likely."""


class HighPass(Pass, name="high-pass"):
    """Remove low frequencies."""

    frequency_hz: tuple[float, float] = span(40, 800, inside=(1, 1e6), mild=20, octaves=True)
    """Lowest and highest corner, Hz; all octaves are equally likely."""


class BandPass(Pass, name="band-pass"):
    """Keep the frequencies around a centre, with slopes of 6 dB per octave."""

    frequency_hz: tuple[float, float] = span(200, 4000, inside=(1, 1e6), octaves=True)
    """Lowest and highest centre, Hz; all octaves are equally likely."""
    q: tuple[float, float] = span(0.3, 1.4, inside=(0.1, 100), mild=0.1, octaves=True)
    """Range of the quality: the centre divided by the bandwidth at -3 dB."""

    text = "{name} at {frequency_hz:.0f} Hz, Q {q:.2f}"


class Equaliser(WaveView, name="equaliser"):
    """Raise and lower parts of the spectrum: a low shelf, peaks, and a high shelf."""

    gain_db: tuple[float, float] = span(-9, 9, inside=(-40, 40), mild=0)
    """Smallest and largest gain of every band, dB."""
    q: tuple[float, float] = span(0.5, 2, inside=(0.1, 100), octaves=True)
    """Range of the peaks' quality: the centre divided by the bandwidth."""
    low_hz: tuple[float, float] = span(60, 300, inside=(1, 1e6), octaves=True)
    """Lowest and highest corner of the low shelf, Hz."""
    peak_hz: tuple[float, float] = span(200, 5000, inside=(1, 1e6), octaves=True)
    """Lowest and highest centre of the peaks, Hz; all octaves are equally likely."""
    high_hz: tuple[float, float] = span(3000, 7000, inside=(1, 1e6), octaves=True)
    """Lowest and highest corner of the high shelf, Hz."""
    peaks: int = number(2, inside=(0, 100))
    """Number of peaks, 0 or more; the time grows in proportion."""

    def draw(self, draws: Draws, context: ViewContext) -> Drawn:
        """Draw `frequency_hz`, `q` and `gain_db` of every band, float32 [N, bands]."""
        corners = ["low_hz", *["peak_hz"] * self.peaks, "high_hz"]
        q = [self.sample("q", draws) for _ in range(self.peaks)]
        flat = torch.full_like(draws.uniform(0, 1), FLAT)
        return {
            "frequency_hz": torch.stack([self.sample(corner, draws) for corner in corners], 1),
            "q": torch.stack([flat, *q, flat], 1),
            "gain_db": torch.stack([self.sample("gain_db", draws) for _ in corners], 1),
        }

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        peaks: list[Kind] = ["peak"] * self.peaks
        kinds: list[Kind] = ["low shelf", *peaks, "high shelf"]
        bands = torch.stack([drawn[name] for name in ("frequency_hz", "q", "gain_db")])
        sections = [
            section(kind, *band, sample_rate=context.sample_rate)
            for kind, band in zip(kinds, bands.unbind(2), strict=True)
        ]
        return functools.reduce(Recursion.then, sections)(x)

    def phrase(self, row: dict[str, Any]) -> str:
        bands = zip(row["gain_db"], row["frequency_hz"], strict=True)
        return "equaliser " + ", ".join(f"{db:+.1f} dB at {hz:.0f} Hz" for db, hz in bands)


class Bandwidth(WaveView, name="bandwidth"):
    """Remove what a recording at a lower sample rate cannot contain."""

    rate_hz: tuple[float, float] = span(4000, 16000, inside=(100, 1e6), mild=16000, octaves=True)
    """Lowest and highest sample rate, Hz; all octaves are equally likely."""

    text = "as from {rate_hz:.0f} Hz"

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        return limit_bandwidth(x, drawn["rate_hz"] / 2, context.sample_rate)

"""Views that filter a waveform: passes, an equaliser, the bandwidth of a lower sample rate."""

import functools
from typing import Any, cast

import torch
from torch import Tensor

from .base import Drawn, ViewContext, WaveView, number, span
from .draws import Numbers
from .dsp.filter import Kind, limit_bandwidth, second_order, sections
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

    def numbers(self) -> Numbers:
        """Return the ranges of every band's frequency and gain, and of every peak's quality."""
        corners = ["low_hz", *["peak_hz"] * self.peaks, "high_hz"]
        wanted = {f"frequency_hz {i}": corner for i, corner in enumerate(corners)}
        wanted |= {f"gain_db {i}": "gain_db" for i in range(len(corners))}
        wanted |= {f"q {i}": "q" for i in range(1, len(corners) - 1)}
        return {name: self.range_of(option) for name, option in wanted.items()}

    def derive(self, drawn: Drawn, context: ViewContext) -> Drawn:
        """Return `frequency_hz`, `q` and `gain_db` of every band, float32 [N, bands]."""
        bands = range(self.peaks + 2)
        flat = torch.full_like(drawn["gain_db 0"], FLAT)
        return {
            name: torch.stack([drawn.get(f"{name} {band}", flat) for band in bands], 1)
            for name in ("frequency_hz", "q", "gain_db")
        }

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        peaks: list[Kind] = ["peak"] * self.peaks
        kinds: list[Kind] = ["low shelf", *peaks, "high shelf"]
        frequency_hz, q, gain_db = (drawn[name].T for name in ("frequency_hz", "q", "gain_db"))
        chained = sections(kinds, frequency_hz, q, gain_db, context.sample_rate)
        return functools.reduce(Recursion.then, chained)(x)

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

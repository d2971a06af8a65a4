"""Views that filter a waveform: passes, an equaliser, the bandwidth of another sample rate."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Drawn, Setting, WaveView, check_range, uniform_in_octaves
from .draws import Draws
from .dsp.filter import Kind, limit_bandwidth, second_order, section
from .dsp.recursion import Recursion

FLAT = 0.5**0.5
"""Quality of a pass whose response has no peak."""


@dataclass(frozen=True, kw_only=True)
class Pass(WaveView):
    """Let a part of the spectrum pass, with 12 dB an octave beside it."""

    frequency_hz: tuple[float, float] = (100.0, 7000.0)
    """Lowest and highest corner, Hz, with equal chances for all octaves."""
    q: tuple[float, float] = (FLAT, FLAT)
    """Range of the quality: 0.71 is flat, more is a peak at the corner."""

    kind: ClassVar[Kind]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("frequency_hz", self.frequency_hz, 1, 1e6)
        check_range("q", self.q, 0.1, 100)

    def parameters(self, draws: Draws) -> Drawn:
        """Draw `frequency_hz` and `q`."""
        frequency_hz = uniform_in_octaves(draws, *self.frequency_hz)
        return {"frequency_hz": frequency_hz, "q": uniform_in_octaves(draws, *self.q)}

    def change(self, x: Tensor, drawn: Drawn, setting: Setting) -> Tensor:
        """Filter."""
        response = drawn["frequency_hz"], drawn["q"]
        return second_order(x, self.kind, *response, sample_rate=setting.sample_rate)


@dataclass(frozen=True, kw_only=True)
class LowPass(Pass):
    """Take the treble away."""

    frequency_hz: tuple[float, float] = (800.0, 7000.0)
    """Lowest and highest corner, Hz, with equal chances for all octaves."""

    kind: ClassVar[Kind] = "low-pass"
    text: ClassVar[str] = "low-pass at {frequency_hz:.0f} Hz"


@dataclass(frozen=True, kw_only=True)
class HighPass(Pass):
    """Take the bass away."""

    frequency_hz: tuple[float, float] = (40.0, 800.0)
    """Lowest and highest corner, Hz, with equal chances for all octaves."""

    kind: ClassVar[Kind] = "high-pass"
    text: ClassVar[str] = "high-pass at {frequency_hz:.0f} Hz"


@dataclass(frozen=True, kw_only=True)
class BandPass(Pass):
    """Keep what lies around a frequency, with 6 dB an octave beside it."""

    frequency_hz: tuple[float, float] = (200.0, 4000.0)
    """Lowest and highest centre, Hz, with equal chances for all octaves."""
    q: tuple[float, float] = (0.3, 1.4)
    """Range of the quality: the centre divided by the bandwidth at -3 dB."""

    kind: ClassVar[Kind] = "band-pass"
    text: ClassVar[str] = "band-pass at {frequency_hz:.0f} Hz, Q {q:.2f}"


@dataclass(frozen=True, kw_only=True)
class Equaliser(WaveView):
    """Raise and lower parts of the spectrum: a low shelf, peaks, and a high shelf."""

    gain_db: tuple[float, float] = (-9.0, 9.0)
    """Smallest and largest gain of every band, dB."""
    q: tuple[float, float] = (0.5, 2.0)
    """Range of the peaks' quality: the centre divided by the bandwidth."""
    low_hz: tuple[float, float] = (60.0, 300.0)
    """Lowest and highest corner of the low shelf, Hz."""
    peak_hz: tuple[float, float] = (200.0, 5000.0)
    """Lowest and highest centre of the peaks, Hz, with equal chances for all octaves."""
    high_hz: tuple[float, float] = (3000.0, 7000.0)
    """Lowest and highest corner of the high shelf, Hz."""
    peaks: int = 2
    """Number of peaks, 0 or more; costs in proportion."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("gain_db", self.gain_db, -40, 40)
        check_range("q", self.q, 0.1, 100)
        check_range("peaks", (self.peaks, self.peaks), 0, 100)
        for name in ("low_hz", "peak_hz", "high_hz"):
            check_range(name, getattr(self, name), 1, 1e6)

    def parameters(self, draws: Draws) -> Drawn:
        """Draw `frequency_hz`, `q` and `gain_db` of every band, float32 [N, bands]."""
        spans = [self.low_hz, *[self.peak_hz] * self.peaks, self.high_hz]
        q = [uniform_in_octaves(draws, *self.q) for _ in range(self.peaks)]
        flat = torch.full_like(draws.uniform(0, 1), FLAT)
        return {
            "frequency_hz": torch.stack([uniform_in_octaves(draws, *s) for s in spans], 1),
            "q": torch.stack([flat, *q, flat], 1),
            "gain_db": torch.stack([draws.uniform(*self.gain_db) for _ in spans], 1),
        }

    def change(self, x: Tensor, drawn: Drawn, setting: Setting) -> Tensor:
        """Filter by all bands in one recursion."""
        peaks: list[Kind] = ["peak"] * self.peaks
        kinds: list[Kind] = ["low shelf", *peaks, "high shelf"]
        bands = torch.stack([drawn[name] for name in ("frequency_hz", "q", "gain_db")])
        sections = [
            section(kind, *band, sample_rate=setting.sample_rate)
            for kind, band in zip(kinds, bands.unbind(2), strict=True)
        ]
        return functools.reduce(Recursion.then, sections)(x)

    def phrase(self, row: dict) -> str:
        """Write every band's gain and frequency."""
        bands = zip(row["gain_db"], row["frequency_hz"], strict=True)
        return "equaliser " + ", ".join(f"{db:+.1f} dB at {hz:.0f} Hz" for db, hz in bands)


@dataclass(frozen=True, kw_only=True)
class Bandwidth(WaveView):
    """Take away what a recording at a lower sample rate could not hold."""

    rate_hz: tuple[float, float] = (4000.0, 16000.0)
    """Lowest and highest sample rate, Hz, with equal chances for all octaves."""

    text: ClassVar[str] = "as from {rate_hz:.0f} Hz"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("rate_hz", self.rate_hz, 100, 1e6)

    def parameters(self, draws: Draws) -> Drawn:
        """Draw `rate_hz`."""
        return {"rate_hz": uniform_in_octaves(draws, *self.rate_hz)}

    def change(self, x: Tensor, drawn: Drawn, setting: Setting) -> Tensor:
        """Limit the bandwidth."""
        return limit_bandwidth(x, drawn["rate_hz"] / 2, setting.sample_rate)

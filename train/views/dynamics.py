"""Dynamic-range compression of waveforms, sample by sample, without a loop over time."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .base import Drawn, Setting, WaveView, check_range, uniform_in_octaves
from .draws import Draws
from .dsp.envelope import peak_envelope

QUIETEST = 1e-6
OCTAVES = math.log2(10) / 20
"""Doublings of the amplitude in a decibel: computers have logarithms to base 2."""


def compress(
    x: Tensor,
    threshold_db: Tensor,
    ratio: Tensor,
    attack_ms: Tensor,
    release_ms: Tensor,
    sample_rate: int,
    knee_db: float = 6.0,
) -> Tensor:
    """Turn loud passages down.

    The feed-forward compressor with a decoupled, smooth peak detector behind its gain computer, in
    decibels (Giannoulis, Massberg and Reiss, "Digital dynamic range compressor design", 2012,
    equations 4, 17 and 23).

    Args:
        x: waveforms, float32 [N, T]; full scale is 1.
        threshold_db: level at which the reduction begins, dB of full scale [N].
        ratio: dB of input above the threshold for one of output [N]; 1 changes nothing.
        attack_ms: time constant of a reduction that grows [N].
        release_ms: time constant of one that ends, besides the attack's [N].
        sample_rate: Hz.
        knee_db: width of the quadratic bend around the threshold.

    Returns:
        Waveforms, float32 [N, T].
    """
    knee = knee_db * OCTAVES
    over = x.abs().clamp_min_(QUIETEST).log2_()
    over.sub_((threshold_db * OCTAVES - knee / 2)[:, None]).clamp_min_(0)
    bend = over.clamp(max=knee)
    wanted = over.sub_(bend).addcmul_(bend, bend, value=0.5 / knee)
    attack, release = (t * sample_rate / 1000 for t in (attack_ms, release_ms))
    # Scaled at the end, as the envelope of what is scaled is the scaled envelope.
    reduction = peak_envelope(wanted, release, attack).mul_((1 / ratio - 1)[:, None])
    return reduction.exp2_().mul_(x)


@dataclass(frozen=True, kw_only=True)
class Compression(WaveView):
    """Compress a clip's dynamic range."""

    threshold_db: tuple[float, float] = (-40.0, -15.0)
    """Lowest and highest level at which the reduction begins, dB of full scale."""
    ratio: tuple[float, float] = (1.5, 8.0)
    """Smallest and largest ratio: dB of input above the threshold for one of output."""
    attack_ms: tuple[float, float] = (1.0, 20.0)
    """Shortest and longest time constant of the attack, ms."""
    release_ms: tuple[float, float] = (30.0, 300.0)
    """Shortest and longest time constant of the release, ms."""

    text: ClassVar[str] = (
        "compressed above {threshold_db:.0f} dB by {ratio:.1f}:1, "
        "attack {attack_ms:.1f} ms, release {release_ms:.0f} ms"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("threshold_db", self.threshold_db, -100, 0)
        check_range("ratio", self.ratio, 1, 100)
        check_range("attack_ms", self.attack_ms, 0.1, 1000)
        check_range("release_ms", self.release_ms, 1, 10_000)

    def parameters(self, draws: Draws) -> Drawn:
        """Draw `threshold_db`, `ratio`, `attack_ms` and `release_ms`."""
        return {
            "threshold_db": draws.uniform(*self.threshold_db),
            "ratio": uniform_in_octaves(draws, *self.ratio),
            "attack_ms": uniform_in_octaves(draws, *self.attack_ms),
            "release_ms": uniform_in_octaves(draws, *self.release_ms),
        }

    def change(self, x: Tensor, drawn: Drawn, setting: Setting) -> Tensor:
        """Compress."""
        return compress(
            x,
            threshold_db=drawn["threshold_db"],
            ratio=drawn["ratio"],
            attack_ms=drawn["attack_ms"],
            release_ms=drawn["release_ms"],
            sample_rate=setting.sample_rate,
        )

"""Dynamic-range compression of waveforms, sample by sample, without a loop over time."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from train.draws import Draws
from train.wave_recursion import decaying_maximum, smoother
from train.wave_view import Drawn, Setting, WaveView, check_range, decibels, uniform_in_octaves

QUIETEST = 1e-6


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
    equations 4, 17 and 23): with c the wanted reduction of a sample,
    y' = max(c, r y + (1 - r) c) and g' = a g + (1 - a) y', from y = g = 0. As y' minus the
    smoothing of c by r is a decaying maximum, both have a closed form.

    Args:
        x: waveforms, float32 [N, T]; full scale is 1.
        threshold_db: level at which the reduction begins, dB of full scale [N].
        ratio: dB of input above the threshold for one of output [N]; 1 changes nothing.
        attack_ms: time constant of a reduction that grows [N].
        release_ms: time constant of one that ends, besides the attack's [N]; 1 sample or more.
        sample_rate: Hz.
        knee_db: width of the quadratic bend around the threshold.

    Returns:
        Waveforms, float32 [N, T].
    """
    level_db = x.abs().clamp_min(QUIETEST).log10() * 20
    over = level_db - threshold_db[:, None]
    bend = (over + knee_db / 2).clamp(0, knee_db).square() / (2 * knee_db)
    wanted = (bend + (over - knee_db / 2).clamp_min(0)) * (1 - 1 / ratio)[:, None]
    attack, release = (t * sample_rate / 1000 for t in (attack_ms, release_ms))
    slow = smoother(release)(wanted)
    held = slow + decaying_maximum(wanted - slow, release)
    return x * decibels(-smoother(attack)(held))


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

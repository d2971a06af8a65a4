"""What every view of a waveform is: ranges, parameters drawn per sample, a change, and words."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from audio_barlow_twins.shards.base.errors import UserError

from .bank import Bank
from .draws import Draws

Drawn = dict[str, Tensor]
"""Parameters of N samples by name, each [N] or [N, bands]; `applied` says who is changed, bool."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a view must know of the run."""

    sample_rate: int = 16000
    """Samples per second, Hz."""
    n_out: int | None = None
    """Samples that a change of length returns; none: as many as it gets."""
    bank: Bank | None = None
    """Earlier clips [T], for the background; none or an empty one adds nothing."""


@dataclass(frozen=True, kw_only=True)
class WaveView:
    """A random change of waveforms, for a whole batch on its device."""

    probability: float = 0.5
    """Share of samples that are changed, 0 to 1; the others come back as they are."""

    text: ClassVar[str] = ""
    """How `describe` writes a sample's parameters, a format string."""

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise UserError(f"probability is {self.probability}; choose a share from [0, 1]")

    def draw(self, draws: Draws) -> Drawn:
        """Draw the parameters of the N samples, as many numbers whoever is changed."""
        return {"applied": draws.uniform(0, 1) < self.probability} | self.parameters(draws)

    def apply(self, x: Tensor, drawn: Drawn, setting: Setting) -> Tensor:
        """Change those of the waveforms, float32 [N, T], whose `applied` is true."""
        changed = self.change(x, drawn, setting)
        return torch.where(drawn["applied"][:, None], changed, fit(x, changed.shape[1]))

    def __call__(self, x: Tensor, draws: Draws, setting: Setting | None = None) -> Tensor:
        """Draw and change: float32 [N, T] to [N, T], or to [N, n_out] where the length changes."""
        return self.apply(x, self.draw(draws), setting or Setting())

    def describe(self, drawn: Drawn) -> list[str]:
        """Say what was done to each sample, '' for one left alone; waits for the device."""
        table = {name: values.tolist() for name, values in drawn.items()}
        rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
        return [self.phrase(row) if row["applied"] else "" for row in rows]

    def phrase(self, row: dict) -> str:
        """Write one sample's parameters."""
        return self.text.format(**row)

    def needed_samples(self, n_out: int, sample_rate: int) -> int:
        """Count the samples a clip must have for `n_out` without zeros at the end."""
        return n_out

    def parameters(self, draws: Draws) -> Drawn:
        """Draw what is particular to this view."""
        return {}

    def change(self, x: Tensor, drawn: Drawn, setting: Setting) -> Tensor:
        """Change every sample."""
        raise NotImplementedError


def fit(x: Tensor, n_samples: int) -> Tensor:
    """Cut waveforms [N, T] to a length, or fill them with zeros at the end."""
    return x if x.shape[1] == n_samples else pad(x, (0, n_samples - x.shape[1]))


def uniform_in_octaves(draws: Draws, low: float, high: float) -> Tensor:
    """Draw from [low, high) with equal chances for equal ratios: float32 [N]."""
    return draws.uniform(math.log2(low), math.log2(high)).exp2().clamp(low, high)


def check_range(
    name: str, got: tuple[float, float], low: float = -math.inf, high: float = math.inf
) -> None:
    """Refuse a range that is upside down or leaves [low, high]."""
    first, last = got
    if not (low <= first <= last <= high and math.isfinite(first) and math.isfinite(last)):
        raise UserError(f"{name} is {got}; choose {low:g} <= smallest <= largest <= {high:g}")


def decibels(db: Tensor) -> Tensor:
    """Convert decibels to a factor of amplitude."""
    return torch.pow(10.0, db / 20)

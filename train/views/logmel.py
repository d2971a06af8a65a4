"""Augmentations of normalised log-mel, for a whole batch on its device.

Mixup, random resize crop and random linear fader are those of BYOL-A (Niizumi et al., 2022), noise
is a variant that Audio Barlow Twins compares with. Nothing here loops over samples or waits for
the device; every sample draws from its own stream. Each is called with

    x: normalised log-mel, float32 [N, T, F],
    draws: streams of the N clips,
    bank: earlier clips of the same shape,

and returns float32 [N, T, F].
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from audio_barlow_twins.shards.base.errors import UserError

from .bank import Bank
from .draws import Draws
from .resize import resize_weights

LOG_EPS = math.log(torch.finfo(torch.float32).eps)


@dataclass(frozen=True, kw_only=True)
class Mixup:
    """Mix every clip with an earlier one, as powers: log((1 - a) e^x + a e^z + eps).

    While the bank is empty, clips pass unchanged. eps is that of float32.
    """

    alpha: float = 0.2
    """Largest share of an earlier clip in a view, 0 to 1; each share a is U(0, this)."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise UserError(f"mixup.alpha is {self.alpha}; choose a share from [0, 1]")

    def __call__(self, x: Tensor, draws: Draws, bank: Bank) -> Tensor:
        """Mix; two numbers of each stream are taken."""
        share = draws.uniform(0, self.alpha)[:, None, None]
        z = bank.take(draws.integers(bank.filled.clamp_min(1)))
        return torch.where(bank.filled > 0, _add_powers(x, 1 - share, z, share), x)


@dataclass(frozen=True, kw_only=True)
class RandomResizeCrop:
    """Resize a random window around or inside every clip to the clip's size, bicubically.

    The clip lies centred in a canvas of zeros that is longer in time. The result equals
    `interpolate(window, mode="bicubic", align_corners=True)` of every sample's own window.
    """

    scale: tuple[float, float] = (0.6, 1.5)
    """Smallest and largest side of the window, in sides of the clip, on both axes."""
    canvas: float = 1.5
    """Length of the zero canvas that holds the clip, in lengths of the clip, 1 or more."""

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high:
            raise UserError(f"rrc.scale is {self.scale}; choose 0 < smallest <= largest")
        if not self.canvas >= 1:
            raise UserError(f"rrc.canvas is {self.canvas}; it holds the clip, choose 1 or more")

    def __call__(self, x: Tensor, draws: Draws, bank: Bank) -> Tensor:
        """Crop and resize; four numbers of each stream are taken."""
        n_frames, n_mels = x.shape[1:]
        canvas_frames = int(self.canvas * n_frames)
        height, top, width, left = self.draw(draws, n_frames, n_mels)
        over_mels = resize_weights(top, height, n_mels)
        over_frames = resize_weights(left - (canvas_frames - n_frames) // 2, width, n_frames)
        return over_frames @ (x @ over_mels.mT)

    def draw(
        self, draws: Draws, n_frames: int, n_mels: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw windows in the canvas: height and top in bins, width and left in frames, [N]."""
        canvas_frames = int(self.canvas * n_frames)
        height = (draws.uniform(*self.scale) * n_mels).to(torch.int64).clamp(1, n_mels)
        width = (draws.uniform(*self.scale) * n_frames).to(torch.int64).clamp(1, canvas_frames)
        top = draws.integers(n_mels - height + 1)
        left = draws.integers(canvas_frames - width + 1)
        return height, top, width, left


@dataclass(frozen=True, kw_only=True)
class RandomLinearFader:
    """Add a straight line over time to every clip."""

    gain: float = 1.0
    """Each end of the line is U(-this, this), in units of the normalised log-mel."""

    def __post_init__(self) -> None:
        if not self.gain >= 0:
            raise UserError(f"rlf.gain is {self.gain}; choose 0 or more")

    def __call__(self, x: Tensor, draws: Draws, bank: Bank) -> Tensor:
        """Fade; two numbers of each stream are taken."""
        head, tail = (draws.uniform(-self.gain, self.gain) for _ in range(2))
        time = torch.linspace(0, 1, x.shape[1], device=x.device)
        return x + torch.lerp(head[:, None], tail[:, None], time)[..., None]


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Add the power of normal noise to every clip: log((1 - l) e^x + e^z + eps), z ~ N(0, l)."""

    deviation: float = 0.2
    """Largest standard deviation l of the noise, 0 to 1; each clip's l is U(0, this)."""

    def __post_init__(self) -> None:
        if not 0 <= self.deviation <= 1:
            raise UserError(f"noise.deviation is {self.deviation}; choose from [0, 1]")

    def __call__(self, x: Tensor, draws: Draws, bank: Bank) -> Tensor:
        """Add noise; two numbers of each stream are taken."""
        deviation = draws.uniform(0, self.deviation)[:, None, None]
        z = deviation * draws.normals(x[0].numel()).view_as(x)
        return _add_powers(x, 1 - deviation, z, torch.ones_like(deviation))


def _add_powers(x: Tensor, of_x: Tensor, z: Tensor, of_z: Tensor) -> Tensor:
    """Compute log(of_x e^x + of_z e^z + eps), float32, without overflow."""
    # The largest of the three exponents is taken out, so that no exponential overflows.
    peak = torch.maximum(x, z).clamp_min_(LOG_EPS)
    total = (x - peak).exp_().mul_(of_x)
    total += (z - peak).exp_().mul_(of_z)
    total += (LOG_EPS - peak).exp_()
    return total.log_().add_(peak)

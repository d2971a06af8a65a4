"""Views: the augmentations of BYOL-A (Niizumi et al., 2022), for a whole batch on its device.

Nothing here loops over samples or waits for the device; every sample draws from its own stream.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from shards.cli import UserError
from train.draws import Draws

CUBIC_A = -0.75
LOG_EPS = math.log(torch.finfo(torch.float32).eps)


@dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    """What the two views of a clip may differ in."""

    mixup_alpha: float = 0.2
    """Largest share of an earlier clip mixed into a view, 0 to 1; each share is U(0, this)."""
    mixup_bank: int = 2048
    """Number of last clips to mix from."""
    rrc_scale: tuple[float, float] = (0.6, 1.5)
    """Smallest and largest side of the crop window, in sides of the input, on both axes."""
    rrc_canvas: float = 1.5
    """Length of the zero canvas that holds the input, in lengths of the input, 1 or more."""
    rlf_gain: float = 1.0
    """Each end of the fader's line is U(-this, this), in units of the normalised log-mel."""

    def __post_init__(self) -> None:
        low, high = self.rrc_scale
        if not 0 <= self.mixup_alpha <= 1:
            raise UserError(f"mixup_alpha is {self.mixup_alpha}; choose a share from [0, 1]")
        if self.mixup_bank < 1:
            raise UserError(f"mixup_bank is {self.mixup_bank}; choose 1 or more clips")
        if not 0 < low <= high:
            raise UserError(f"rrc_scale is {self.rrc_scale}; choose 0 < smallest <= largest")
        if not self.rrc_canvas >= 1:
            raise UserError(f"rrc_canvas is {self.rrc_canvas}; it holds the input, choose >= 1")
        if not self.rlf_gain >= 0:
            raise UserError(f"rlf_gain is {self.rlf_gain}; choose 0 or more")


class MixupBank:
    """The last clips, first in first out, in a ring that lies on their device.

    Args:
        capacity: number of clips held at most.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.filled = 0
        self._cursor = 0  # where the next clip goes
        self._ring: Tensor | None = None

    def push(self, x: Tensor) -> None:
        """Store a batch of clips [N, T, F], the last one as the newest."""
        x = x.detach()[-self.capacity :]
        if self._ring is None:
            self._ring = x.new_empty(self.capacity, *x.shape[1:])
        ahead = min(len(x), self.capacity - self._cursor)
        self._ring[self._cursor : self._cursor + ahead] = x[:ahead]
        self._ring[: len(x) - ahead] = x[ahead:]
        self._cursor = (self._cursor + len(x)) % self.capacity
        self.filled = min(self.filled + len(x), self.capacity)

    def take(self, ages: Tensor) -> Tensor:
        """Look up clips by age, int64 [N] below `filled`, where 0 is the newest: [N, T, F]."""
        if self._ring is None:
            raise ValueError("the bank is empty; push clips before taking any")
        return self._ring[(self._cursor - 1 - ages) % self.capacity]

    def clips(self) -> Tensor:
        """List all clips, oldest first [filled, T, F]; pushed to a new bank they restore this."""
        return self.take(torch.arange(self.filled - 1, -1, -1))


class Views:
    """Make two views of every clip of a batch: mixup, random resize crop, random linear fader.

    The bank holds the last clips of all processes, in the order of the global batch, on each of
    them; so the clip that is mixed in does not depend on how many processes share the batch.

    Args:
        config: ranges of the augmentations.
        gather: collects the clips of all processes in the order of the global batch.
    """

    def __init__(
        self, config: ViewsConfig, gather: Callable[[Tensor], Tensor] = lambda x: x
    ) -> None:
        self.config, self.gather = config, gather
        self.bank = MixupBank(config.mixup_bank)

    @torch.no_grad()
    def __call__(self, x: Tensor, keys_a: Tensor, keys_b: Tensor) -> tuple[Tensor, Tensor]:
        """Make both views, then store the clips in the bank.

        Args:
            x: normalised log-mel, float32 [N, T, F].
            keys_a: key of the random stream of every clip's view A, int64 [N], on the device of x.
            keys_b: the same for view B.

        Returns:
            Views A and B, each float32 [N, T, F].
        """
        config = self.config
        draws = Draws(torch.cat([keys_a, keys_b]))
        with torch.autocast(device_type=x.device.type, enabled=False):
            views = torch.cat([x, x])
            views = mixup(views, self.bank, draws, config.mixup_alpha)
            views = random_resize_crop(views, draws, config.rrc_scale, config.rrc_canvas)
            views = random_linear_fader(views, draws, config.rlf_gain)
        self.remember(x)
        view_a, view_b = views.split(len(x))
        return view_a, view_b

    def remember(self, x: Tensor) -> None:
        """Store a batch of clips [N, T, F] in the bank, with those of the other processes."""
        self.bank.push(self.gather(x))


def mixup(x: Tensor, bank: MixupBank, draws: Draws, alpha: float) -> Tensor:
    """Mix every clip with one from the bank, as powers: log((1 - a) e^x + a e^z + eps).

    Args:
        x: normalised log-mel, float32 [N, T, F].
        bank: earlier clips of the same shape; while it is empty `x` comes back as it is.
        draws: streams of the N clips; two numbers are taken of each.
        alpha: the share a of the other clip is U(0, alpha).

    Returns:
        Mixed log-mel, float32 [N, T, F]; eps is that of float32.
    """
    share = draws.uniform(0, alpha)[:, None, None]
    ages = draws.integers(max(bank.filled, 1))
    if bank.filled == 0:
        return x
    z = bank.take(ages)
    # The largest of the three exponents is taken out, so that no exponential overflows.
    peak = torch.maximum(x, z).clamp_min_(LOG_EPS)
    total = (x - peak).exp_().mul_(1 - share)
    total += z.sub_(peak).exp_().mul_(share)
    total += (LOG_EPS - peak).exp_()
    return total.log_().add_(peak)


def random_resize_crop(
    x: Tensor, draws: Draws, scale: tuple[float, float], canvas: float
) -> Tensor:
    """Resize a random window around or inside every clip to the clip's size, bicubically.

    The clip lies centred in a canvas of zeros that is longer in time. The result equals
    `interpolate(window, mode="bicubic", align_corners=True)` of every sample's own window.

    Args:
        x: normalised log-mel, float32 [N, T, F].
        draws: streams of the N clips; four numbers are taken of each.
        scale: smallest and largest side of the window, in sides of the clip.
        canvas: length of the canvas, in lengths of the clip.

    Returns:
        Log-mel, float32 [N, T, F].
    """
    n_frames, n_mels = x.shape[1:]
    canvas_frames = int(canvas * n_frames)
    height, top, width, left = draw_windows(draws, n_frames, n_mels, scale, canvas_frames)
    over_mels = resize_weights(top, height, n_mels)
    over_frames = resize_weights(left - (canvas_frames - n_frames) // 2, width, n_frames)
    return over_frames @ (x @ over_mels.mT)


def draw_windows(
    draws: Draws, n_frames: int, n_mels: int, scale: tuple[float, float], canvas_frames: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw windows in a canvas [n_mels, canvas_frames]: height, top, width, left, int64 [N]."""
    height = (draws.uniform(*scale) * n_mels).to(torch.int64).clamp(1, n_mels)
    width = (draws.uniform(*scale) * n_frames).to(torch.int64).clamp(1, canvas_frames)
    top = draws.integers(n_mels - height + 1)
    left = draws.integers(canvas_frames - width + 1)
    return height, top, width, left


def resize_weights(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Write the cubic resize of one axis's window to `size` points as matrices.

    Args:
        start: first point of each window relative to the input, int64 [N]; may be negative.
        length: points of each window, int64 [N].
        size: points of the input and of the output; the input is zero outside.

    Returns:
        Weights of the input's points (columns) in the output's (rows), float32 [N, size, size].
    """
    # Output i lies at i (length - 1) / (size - 1) in the window: whole and rest in integers.
    intervals = max(size - 1, 1)
    position = torch.arange(size, device=start.device) * (length - 1)[:, None]
    whole = position // intervals
    rest = (position - whole * intervals).to(torch.float32) / intervals
    taps = whole[..., None] + torch.arange(-1, 3, device=start.device)
    taps = taps.clamp_min(0).minimum((length - 1)[:, None, None]) + start[:, None, None]
    weights = cubic_weights(rest) * ((taps >= 0) & (taps < size))
    matrices = weights.new_zeros(len(start), size, size)
    return matrices.scatter_add_(2, taps.clamp(0, size - 1), weights)


def cubic_weights(rest: Tensor) -> Tensor:
    """Weigh the 4 points around a position by Keys's cubic kernel: [...] in [0, 1) to [..., 4]."""
    near = torch.stack([rest, 1 - rest], dim=-1)
    near_weights = ((CUBIC_A + 2) * near - (CUBIC_A + 3)) * near.square() + 1
    far = near + 1
    far_weights = ((CUBIC_A * far - 5 * CUBIC_A) * far + 8 * CUBIC_A) * far - 4 * CUBIC_A
    return torch.cat([far_weights[..., :1], near_weights, far_weights[..., 1:]], dim=-1)


def random_linear_fader(x: Tensor, draws: Draws, gain: float) -> Tensor:
    """Add a straight line over time to every clip.

    Args:
        x: normalised log-mel, float32 [N, T, F].
        draws: streams of the N clips; two numbers are taken of each.
        gain: the line's value at the first and at the last frame are each U(-gain, gain).

    Returns:
        Log-mel, float32 [N, T, F].
    """
    head, tail = draws.uniform(-gain, gain), draws.uniform(-gain, gain)
    time = torch.linspace(0, 1, x.shape[1], device=x.device)
    return x + torch.lerp(head[:, None], tail[:, None], time)[..., None]

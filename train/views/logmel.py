"""Views of normalised log-mel.

Mixup, random resize crop and random linear fader are those of BYOL-A (Niizumi et al., 2022); noise
is a variant from the ablations of Audio Barlow Twins.
"""

import math

import torch
from torch import Tensor

from .base import Drawn, LogmelView, ViewContext, number, span
from .draws import MAX_INTEGERS, WORD, Numbers, Range, below, normals

LOG_EPS = math.log(torch.finfo(torch.float32).eps)
CUBIC_A = -0.75
"""Parameter of Keys's kernel in torch's bicubic interpolation."""


class Mixup(LogmelView, name="mixup"):
    """Mix every clip with an earlier one, as powers: log((1 - a) e^x + a e^z + eps).

    The first batch of a run stays unchanged. eps is that of float32.
    """

    alpha: float = number(0.2, inside=(0, 1))
    """Largest share of an earlier clip in a view, 0 to 1; each share a is U(0, this)."""
    memory: int = number(2048, inside=(1, MAX_INTEGERS))
    """Number of recent clips to choose from."""

    def numbers(self) -> Numbers:
        return {"share": Range(0, self.alpha), "age": WORD}

    def derive(self, drawn: Drawn, context: ViewContext) -> Drawn:
        held = context.bank.filled.clamp(1, self.memory)
        return drawn | {"age": below(drawn["age"], held)}

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        share = drawn["share"][:, None, None]
        mixed = _add_powers(x, 1 - share, context.bank.take(drawn["age"]), share)
        return torch.where(context.bank.filled > 0, mixed, x)


class RandomResizeCrop(LogmelView, name="rrc"):
    """Resize a random window around or inside every clip to the clip's size, bicubically.

    The clip is centred in a canvas of zeros that is longer in time. The result equals
    `interpolate(window, mode="bicubic", align_corners=True)` of every sample's own window.
    """

    scale: tuple[float, float] = span(0.6, 1.5, inside=(1e-3, 1e3))
    """Smallest and largest side of the window relative to the clip's, on both axes."""
    canvas: float = number(1.5, inside=(1, 1e3))
    """Length of the canvas of zeros relative to the clip's, 1 or more."""

    def numbers(self) -> Numbers:
        scale = self.range_of("scale")
        return {"height": scale, "width": scale, "top": WORD, "left": WORD}

    def derive(self, drawn: Drawn, context: ViewContext) -> Drawn:
        """Return windows in the canvas: height and top in bins, width and left in frames."""
        n_frames, n_mels = context.shape
        canvas_frames = int(self.canvas * n_frames)
        height = (drawn["height"] * n_mels).to(torch.int64).clamp(1, n_mels)
        width = (drawn["width"] * n_frames).to(torch.int64).clamp(1, canvas_frames)
        top = below(drawn["top"], n_mels - height + 1)
        left = below(drawn["left"], canvas_frames - width + 1)
        return {"height": height, "top": top, "width": width, "left": left}

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        n_frames, n_mels = context.shape
        before = (int(self.canvas * n_frames) - n_frames) // 2
        over_mels = resize_weights(drawn["top"], drawn["height"], n_mels)
        over_frames = resize_weights(drawn["left"] - before, drawn["width"], n_frames)
        return over_frames @ (x @ over_mels.mT)


class RandomLinearFader(LogmelView, name="rlf"):
    """Add a straight line over time to every clip."""

    gain: float = number(1.0, inside=(0, 1e6))
    """Each end of the line is U(-this, this), in units of the normalised log-mel."""

    def numbers(self) -> Numbers:
        return {end: Range(-self.gain, self.gain) for end in ("head", "tail")}

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        time = torch.linspace(0, 1, x.shape[1], device=x.device)
        return x + torch.lerp(drawn["head"][:, None], drawn["tail"][:, None], time)[..., None]


class Noise(LogmelView, name="noise"):
    """Add the power of normal noise to every clip: log((1 - l) e^x + e^z + eps), z ~ N(0, l)."""

    deviation: float = number(0.2, inside=(0, 1))
    """Largest standard deviation l of the noise, 0 to 1; each clip's l is U(0, this)."""

    def numbers(self) -> Numbers:
        return {"deviation": Range(0, self.deviation), "noise": WORD}

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        deviation = drawn["deviation"][:, None, None]
        z = deviation * normals(drawn["noise"], math.prod(context.shape)).view_as(x)
        return _add_powers(x, 1 - deviation, z, torch.ones_like(deviation))


def _add_powers(x: Tensor, of_x: Tensor, z: Tensor, of_z: Tensor) -> Tensor:
    """Return log(of_x e^x + of_z e^z + eps), float32, without overflow."""
    eps = torch.full((), LOG_EPS, device=x.device)
    return torch.logaddexp(torch.logaddexp(x + of_x.log(), z + of_z.log()), eps)


def resize_weights(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Return matrices that resize windows of one axis to `size` points by cubic interpolation.

    Args:
        start: first point of each window relative to the input, int64 [N]; may be negative.
        length: points of each window, int64 [N].
        size: points of the input, which is zero outside, and of the output.

    Returns:
        Weights of the input's points (columns) in the output's (rows), float32 [N, size, size].
    """
    # Output i is at i (length - 1) / (size - 1) in the window: whole and rest in integers.
    intervals = max(size - 1, 1)
    position = torch.arange(size, device=start.device) * (length - 1)[:, None]
    whole = position // intervals
    rest = (position - whole * intervals).to(torch.float32) / intervals
    places = whole[..., None] + torch.arange(-1, 3, device=start.device)
    inside = (places >= 0) & (places < length[:, None, None])
    weights = cubic_weights(rest)
    outside = weights.masked_fill(inside, 0)
    # What lies outside is the window's edge again. Only the outer two weights can; those between
    # are zero there. So no two weights of an output meet in one place, in whichever order a device
    # would add them.
    weights[..., 1:3].add_(outside[..., ::3])
    places = places + start[:, None, None]
    places = torch.where((places >= 0) & (places < size), places, size)  # a column to be dropped
    matrices = weights.new_zeros(len(start), size, size + 1)
    return matrices.scatter_(2, places, weights * inside)[..., :size]


def cubic_weights(rest: Tensor) -> Tensor:
    """Return Keys's cubic weights of the 4 nearest points: [...] in [0, 1) to [..., 4]."""
    near = torch.stack([rest, 1 - rest], dim=-1)
    near_weights = ((CUBIC_A + 2) * near - (CUBIC_A + 3)) * near.square() + 1
    far = near + 1
    far_weights = ((CUBIC_A * far - 5 * CUBIC_A) * far + 8 * CUBIC_A) * far - 4 * CUBIC_A
    return torch.cat([far_weights[..., :1], near_weights, far_weights[..., 1:]], dim=-1)

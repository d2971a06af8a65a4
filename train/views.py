"""Two views of every clip: the chosen augmentations, one after the other."""

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from shards.cli import UserError
from train.bank import Bank
from train.draws import Draws
from train.logmel_views import Mixup, Noise, RandomLinearFader, RandomResizeCrop
from train.normalise import Gather, RunningNorm, SetNorm

ViewName = Literal["mixup", "rrc", "rlf", "noise"]
PAPER: tuple[ViewName, ...] = ("mixup", "rrc", "rlf")
"""What the paper settles on, in its order."""


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """How strong each augmentation may be; the field's name is the one that --views takes."""

    mixup: Mixup = field(default_factory=Mixup)
    """An earlier clip mixed in."""
    rrc: RandomResizeCrop = field(default_factory=RandomResizeCrop)
    """Random resize crop: a shift and a stretch in pitch and time."""
    rlf: RandomLinearFader = field(default_factory=RandomLinearFader)
    """Random linear fader: a fade in or out."""
    noise: Noise = field(default_factory=Noise)
    """Noise added."""
    bank: int = 2048
    """Number of last clips to mix from."""

    def __post_init__(self) -> None:
        if self.bank < 1:
            raise UserError(f"ranges.bank is {self.bank}; choose 1 or more clips")


def check_views(names: tuple[str, ...]) -> None:
    """Refuse augmentations that are unknown or named twice.

    Raises:
        UserError: says which.
    """
    for place, name in enumerate(names):
        if name not in get_args(ViewName) or name in names[:place]:
            known = ", ".join(get_args(ViewName))
            raise UserError(f"views are {' '.join(names)}; choose from {known}, each at most once")


class Views(nn.Module):
    """Make two views of every clip of a batch.

    The bank holds the last clips of all processes as they were read, in the order of the global
    batch, on each of them; so the clip that is mixed in does not depend on how many processes share
    the batch. Every augmentation draws from streams of its own, so leaving one out does not change
    the others.

    Args:
        names: augmentations in their order.
        ranges: how strong they are.
        norm: how log-mel is normalised.
        shape: of a clip, (T, F).
        device: where the clips lie.
        gather: collects the clips of all processes in the order of the global batch.
    """

    def __init__(
        self,
        names: tuple[ViewName, ...],
        ranges: Ranges,
        norm: SetNorm | RunningNorm,
        shape: tuple[int, int],
        device: torch.device | None = None,
        gather: Gather = lambda x: x,
    ) -> None:
        super().__init__()
        check_views(names)
        self.chain = [(name, getattr(ranges, name)) for name in names]
        self.norm, self.gather = norm, gather
        self.mixes = "mixup" in names
        self.bank = Bank(ranges.bank if self.mixes else 1, shape, device, read=norm)

    @torch.no_grad()
    def forward(self, x: Tensor, keys_a: Tensor, keys_b: Tensor) -> tuple[Tensor, Tensor]:
        """Make both views, then store the clips in the bank.

        Args:
            x: log-mel, float32 [N, T, F].
            keys_a: key of the random stream of every clip's view A, int64 [N], on the device of x.
            keys_b: the same for view B.

        Returns:
            Views A and B, normalised, each float32 [N, T, F].
        """
        with torch.autocast(device_type=x.device.type, enabled=False):
            views = self.make(x, Draws(torch.cat([keys_a, keys_b])))
        self.remember(x)
        view_a, view_b = views.split(len(x))
        return view_a, view_b

    def make(self, x: Tensor, draws: Draws) -> Tensor:
        """Make the views of one batch, float32 [2N, T, F], with one stream for each."""
        self.norm.learn(x)
        views = self.norm(torch.cat([x, x]))
        for name, view in self.chain:
            views = view(views, draws.of(name), self.bank)
        return self.norm.finish(views)

    def remember(self, x: Tensor) -> None:
        """Store a batch of clips [N, T, F] in the bank, with those of the other processes."""
        if self.mixes:
            self.bank.push(self.gather(x))

"""A user's module: two views that no file of the product knows."""

import torch
from torch import Tensor

from audio_barlow_twins.train.views.base import (
    Drawn,
    LogmelView,
    ViewContext,
    WaveView,
    number,
    span,
)
from audio_barlow_twins.train.views.draws import WORD, Numbers, below


class Hum(WaveView, name="own-hum"):
    """Add the hum of the mains."""

    level: tuple[float, float] = span(0.01, 0.1, inside=(0, 1), mild=0)
    """Smallest and largest amplitude of the hum."""

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        time = torch.arange(x.shape[1], device=x.device) / context.sample_rate
        return x + drawn["level"][:, None] * torch.sin(314 * time)


class Ghost(LogmelView, name="own-ghost"):
    """Add a part of the clip before."""

    share: tuple[float, float] = span(0.1, 0.5, inside=(0, 1))
    """Smallest and largest part of the earlier clip that is added."""
    memory: int = number(5, inside=(1, 100))
    """Number of last clips to choose from."""

    def numbers(self) -> Numbers:
        return super().numbers() | {"age": WORD}

    def derive(self, drawn: Drawn, context: ViewContext) -> Drawn:
        held = context.bank.filled.clamp(1, self.memory)
        return drawn | {"age": below(drawn["age"], held)}

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        added = drawn["share"][:, None, None] * context.bank.take(drawn["age"])
        return x + added * (context.bank.filled > 0)

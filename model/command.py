"""`abt model`: a table of the encoders."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from audio_barlow_twins.shards.base.cli import Positional, say
from audio_barlow_twins.shards.base.errors import UserError

from .encoders import ENCODERS, build_encoder, option_kinds

FRAMES = 96


@dataclass(frozen=True, kw_only=True)
class Encoders:
    """List the encoders: parameters, size of an embedding, GFLOP of one crop's forward pass.

    A crop has 96 frames and 64 mel bins. A multiply-add counts as two operations; norms,
    activations and pooling are not counted. Name encoders to see their options, too.
    """

    names: Positional[tuple[str, ...]] = ()
    """Encoders, such as audiontt; default: all."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.names) - set(ENCODERS)):
            raise UserError(f"no encoder is called {unknown[0]}; choose from {', '.join(ENCODERS)}")

    def run(self) -> None:
        row = "{:<18}{:>12}{:>11}{:>9}  {}"
        options = "options" * bool(self.names)
        say(row.format("encoder", "parameters", "embedding", "GFLOP", options).rstrip())
        for name in self.names or ENCODERS:
            parameters, features, flop = encoder_costs(name)
            words = " ".join(f"{k}={v}" for k, v in option_kinds(name).items() if self.names)
            costs = f"{parameters:,}", f"{features:,}", f"{flop / 1e9:.3f}"
            say(row.format(name, *costs, words).rstrip())


def encoder_costs(name: str) -> tuple[int, int, int]:
    """Return parameters, embedding size and FLOPs of one crop, without allocating the weights."""
    with torch.device("meta"):
        encoder = build_encoder(name, {}).eval()
        crop = torch.empty(1, FRAMES, int(encoder.n_mels))  # type: ignore[arg-type]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        embedding = encoder(crop)
    parameters = sum(p.numel() for p in encoder.parameters())
    return parameters, embedding.shape[1], counter.get_total_flops()

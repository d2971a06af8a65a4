"""`abt model`: a table of the encoders."""

from dataclasses import dataclass
from typing import NamedTuple

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
    activations and pooling are not counted. Where training leaves some parameters as they were
    drawn, "trained" counts the others. Name encoders to see their options, too.
    """

    names: Positional[tuple[str, ...]] = ()
    """Encoders, such as audiontt; default: all."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.names) - set(ENCODERS)):
            raise UserError(f"no encoder is called {unknown[0]}; choose from {', '.join(ENCODERS)}")

    def run(self) -> None:
        row = "{:<18}{:>12}{:>12}{:>11}{:>9}  {}"
        options = "options" * bool(self.names)
        say(row.format("encoder", "parameters", "trained", "embedding", "GFLOP", options).rstrip())
        for name in self.names or ENCODERS:
            costs = encoder_costs(name)
            words = " ".join(f"{k}={v}" for k, v in option_kinds(name).items() if self.names)
            trained = f"{costs.trained:,}" if costs.trained < costs.parameters else ""
            numbers = f"{costs.parameters:,}", trained, f"{costs.features:,}"
            say(row.format(name, *numbers, f"{costs.flop / 1e9:.3f}", words).rstrip())


class Costs(NamedTuple):
    """What an encoder of default options costs."""

    parameters: int
    trained: int
    """Parameters that training changes."""
    features: int
    """Size of an embedding."""
    flop: int
    """Operations of the forward pass of one crop."""


def encoder_costs(name: str) -> Costs:
    """Count what an encoder costs, without allocating its weights."""
    with torch.device("meta"):
        encoder = build_encoder(name, {}).eval()
        crop = torch.empty(1, FRAMES, int(encoder.n_mels))  # type: ignore[arg-type]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        embedding = encoder(crop)
    parameters = sum(p.numel() for p in encoder.parameters())
    trained = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    return Costs(parameters, trained, embedding.shape[1], counter.get_total_flops())

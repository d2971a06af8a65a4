"""The command line of this room: a table of the encoders."""

import argparse
import sys

import torch
from torch.utils.flop_counter import FlopCounterMode

from .encoders import ENCODERS, build_encoder, option_kinds

FRAMES = 96

DESCRIPTION = f"""List the encoders: parameters, features of an embedding, and GFLOP of the forward
pass of one crop of {FRAMES} frames and 64 mel bins. A multiplication with addition counts as two;
norms, activations and pooling are not counted. Encoders that are named are listed with the options
they take."""


def main() -> None:
    """Print the table of the encoders that the command line names, or of all."""
    parser = argparse.ArgumentParser(prog="abt model", description=DESCRIPTION)
    parser.add_argument("name", nargs="*", help="an encoder, such as audiontt")
    named = parser.parse_args().name
    if unknown := sorted(set(named) - set(ENCODERS)):
        parser.error(f"no encoder is called {unknown[0]}; choose from {', '.join(ENCODERS)}")
    row = "{:<18}{:>12}{:>11}{:>9}  {}"
    lines = [row.format("encoder", "parameters", "embedding", "GFLOP", "options" * bool(named))]
    for name in named or ENCODERS:
        parameters, features, flop = encoder_costs(name)
        options = " ".join(f"{key}={kind}" for key, kind in option_kinds(name).items() if named)
        costs = f"{parameters:,}", f"{features:,}", f"{flop / 1e9:.3f}"
        lines.append(row.format(name, *costs, options))
    sys.stdout.write("".join(line.rstrip() + "\n" for line in lines))


def encoder_costs(name: str) -> tuple[int, int, int]:
    """Count an encoder without building it.

    Returns:
        Parameters, features of an embedding, and floating-point operations (two for a
        multiplication with addition) of convolutions, matrix products and attention for one crop.
    """
    with torch.device("meta"):
        encoder = build_encoder(name, {}).eval()
        crop = torch.empty(1, FRAMES, int(encoder.n_mels))  # type: ignore[arg-type]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        embedding = encoder(crop)
    parameters = sum(p.numel() for p in encoder.parameters())
    return parameters, embedding.shape[1], counter.get_total_flops()

"""List the encoders with their numbers of parameters and embedding sizes."""

import sys

from model.checkpoint import ENCODERS, build_encoder

if __name__ == "__main__":
    sys.stdout.write(f"{'encoder':<12}{'parameters':>12}{'embedding':>12}\n")
    for name in ENCODERS:
        net = build_encoder(name, {})
        count = sum(p.numel() for p in net.parameters())
        sys.stdout.write(f"{name:<12}{count:>12,}{net.out_features:>12,}\n")

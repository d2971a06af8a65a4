"""Networks, the loss, and the self-contained checkpoint that `train` writes and `eval` reads.

log-mel [N, T, F] ─▶ encoder ─▶ y [N, D] ─▶ projector ─▶ z [N, P] ─▶ cross-correlation ─▶ loss
                     encoders, audiontt, vit, resnet      └────── barlow_twins ──────┘
waveform ─▶ embedder (front-end, statistics, frozen encoder) ─▶ embedding [N, D]
               ▲
               └─ checkpoint, pretrained (safetensors, hub), foreign (BYOL-A, the authors)
"""

from typing import TYPE_CHECKING

from audio_barlow_twins.lazy import lazily

if TYPE_CHECKING:
    from .barlow_twins import BarlowTwins as BarlowTwins
    from .barlow_twins import cross_correlation as cross_correlation
    from .checkpoint import Checkpoint as Checkpoint
    from .checkpoint import load_checkpoint as load_checkpoint
    from .embedder import Embedder as Embedder
    from .embedder import load_model as load_model
    from .encoders import build_encoder as build_encoder

__all__, __getattr__ = lazily(
    __name__,
    {
        "BarlowTwins": ".barlow_twins",
        "Checkpoint": ".checkpoint",
        "Embedder": ".embedder",
        "build_encoder": ".encoders",
        "cross_correlation": ".barlow_twins",
        "load_checkpoint": ".checkpoint",
        "load_model": ".embedder",
    },
)

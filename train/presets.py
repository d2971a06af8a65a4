"""Named configurations; each says where its numbers come from."""

from dataclasses import replace
from pathlib import Path

from .config import OptimiserConfig, TrainConfig
from .views.registry import PAPER, WAVE_PRESETS

_AUDIOSET = TrainConfig(
    shards="data/audioset/logmel",
    run=Path("runs/audiontt-audioset"),
    block_shards=256,  # 28 GB: two of them fit into the cache of a remote set
    log_every=100,
)
_SCHEDULE = "warm-up of one epoch and cosine to 0 as in its authors' report; their code differs"
_ADAMW = OptimiserConfig(kind="adamw", lr_weights=6.25e-5, lr_biases=6.25e-5, weight_decay=0.24)


def _vitc(letter: str) -> TrainConfig:
    return replace(
        _AUDIOSET,
        run=Path(f"runs/vitc-{letter}-audioset"),
        encoder=f"vitc-{letter}-16x8",
        optimiser=_ADAMW,
    )


def _waveform(name: str, *more: str) -> TrainConfig:
    chain = WAVE_PRESETS[name]
    return replace(
        _AUDIOSET,
        shards="data/audioset/wave",
        run=Path(f"runs/{name}"),
        views=(*chain, *more),
        ranges=chain,
    )


PRESETS: dict[str, tuple[str, TrainConfig]] = {
    "demo": (
        "AudioNTT on the demo corpus, a few minutes on two cores; our own numbers",
        TrainConfig(
            projector_hidden=2048,
            projector_out=256,
            batch=64,
            epochs=80,
            log_every=5,
            checkpoint_every_s=60,
        ),
    ),
    "audiontt-audioset": (
        f"AudioNTT as the paper trains it (batch 128, 100 epochs, LARS); {_SCHEDULE}",
        _AUDIOSET,
    ),
    "vitc-b-audioset": (
        f"ViT_C-B 16x8 as the paper trains it (batch 128, 100 epochs, AdamW); {_SCHEDULE}",
        _vitc("b"),
    ),
    "vitc-s": ("ViT_C-S 16x8, otherwise as vitc-b-audioset (the authors' report)", _vitc("s")),
    "vitc-t": ("ViT_C-T 16x8, otherwise as vitc-b-audioset (the authors' report)", _vitc("t")),
    "audiontt-fsd50k-ablation": (
        "AudioNTT on FSD50K dev, projector output 256, as in the paper's ablations",
        TrainConfig(
            shards="data/fsd50k/logmel",
            run=Path("runs/audiontt-fsd50k-ablation"),
            projector_out=256,
        ),
    ),
    "waveform-light": (
        "AudioNTT from wave shards: small changes of pitch, spectrum, level; our own numbers",
        _waveform("waveform-light"),
    ),
    "waveform-strong": (
        "AudioNTT from wave shards: every kind of change, strong; our own numbers",
        _waveform("waveform-strong"),
    ),
    "waveform-keeping-pitch": (
        "as waveform-strong without pitch shift, for tasks in which pitch counts; our own numbers",
        _waveform("waveform-keeping-pitch"),
    ),
    "paper+waveform": (
        "waveform-light, then the paper's views of the log-mel; our own numbers",
        replace(_waveform("waveform-light", *PAPER), run=Path("runs/paper+waveform")),
    ),
}

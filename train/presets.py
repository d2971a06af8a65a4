"""Named configurations; each says where its numbers come from."""

from pathlib import Path

from train.config import TrainConfig

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
        "AudioNTT as the paper trains it (section 3.3: batch 128, 100 epochs, LARS)",
        TrainConfig(
            shards="data/audioset/logmel",
            block_shards=256,  # 28 GB: two fit into the cache of a remote set
            run=Path("runs/audiontt-audioset"),
        ),
    ),
}

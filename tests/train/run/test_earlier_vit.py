"""A run of a ViT that an earlier version began, with other defaults, goes on as it began."""

from dataclasses import replace
from typing import Any

import pytest
from states import assert_same_state

from audio_barlow_twins.model.checkpoint import load_checkpoint
from audio_barlow_twins.shards.stored.shardset import ShardSet
from audio_barlow_twins.train.config import OptimiserConfig, TrainConfig
from audio_barlow_twins.train.run.folder import RunFolder
from audio_barlow_twins.train.run.session import train
from audio_barlow_twins.train.step.trainer import Trainer

ADAMW = OptimiserConfig(kind="adamw", lr_weights=1e-3, lr_biases=1e-3, weight_decay=0.24)
THEN: dict[str, dict[str, Any]] = {
    "vitc-t-16x8": {"depth": 12},
    "vit-t-16x8": {"depth": 12, "projection": "trained"},
}
"""What the defaults of an earlier version were, by encoder."""


def steps(trainer: Trainer, n: int) -> Trainer:
    """Take some steps."""
    for _, batch in zip(range(n), trainer.batches(), strict=False):
        trainer.take_step(batch)
    return trainer


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("encoder", THEN)
def test_a_run_of_an_earlier_version_is_resumed_with_its_network(
    config: TrainConfig, shard_set: ShardSet, encoder: str
) -> None:
    then = THEN[encoder]
    now = replace(
        config, encoder=encoder, encoder_options=(), optimiser=ADAMW, preflight=False,
        epochs=1, look_epochs=99,
    )  # fmt: skip
    earlier = replace(now, encoder_options=tuple(f"{k}={v}" for k, v in then.items()))
    straight = steps(Trainer(earlier, shard_set), 5).checkpoint()

    half = steps(Trainer(earlier, shard_set), 2).checkpoint()
    unnamed = {name: size for name, size in half.sizes.items() if name not in then}
    RunFolder(now).save(replace(half, sizes=unnamed))
    train(replace(now, resume=True))

    resumed = load_checkpoint(now.run / "checkpoint.pt")
    assert resumed.step == 5
    assert resumed.sizes == half.sizes
    assert_same_state(resumed, straight)


@pytest.mark.parametrize(("encoder", "depth"), [("vitc-t-16x8", 11), ("vit-t-16x8", 12)])
def test_a_checkpoint_of_today_names_every_option(
    config: TrainConfig, shard_set: ShardSet, encoder: str, depth: int
) -> None:
    config = replace(config, encoder=encoder, encoder_options=("pool=mean",))
    made = Trainer(config, shard_set).checkpoint()
    named = {"n_mels": 64, "unit_frames": 32, "pool": "mean", "positions": "units", "depth": depth}
    if encoder == "vit-t-16x8":
        named["projection"] = "frozen"
    assert made.sizes == named

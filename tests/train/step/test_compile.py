"""--compile: the same numbers as without it, from kernels that torch writes."""

from dataclasses import replace

import pytest
import torch

from audio_barlow_twins.shards.stored.shardset import ShardSet
from audio_barlow_twins.train.config import TrainConfig
from audio_barlow_twins.train.step.trainer import Trainer


def losses(config: TrainConfig, shard_set: ShardSet) -> torch.Tensor:
    """Train three steps without dropout, which compiled code draws in another way."""
    trainer = Trainer(config, shard_set)
    for module in trainer.network.modules():
        if hasattr(module, "dropped"):
            module.dropped = 0
    steps = zip(range(3), trainer.batches(), strict=False)
    return torch.stack([trainer.take_step(batch) for _, batch in steps])


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning"
)  # of torch itself
def test_compiled_steps_give_the_losses_of_plain_ones(
    config: TrainConfig, shard_set: ShardSet
) -> None:
    compiled = losses(replace(config, compile="default"), shard_set)
    torch.testing.assert_close(compiled, losses(config, shard_set), rtol=1e-3, atol=1e-3)

"""A plain ViT keeps its random patch projection: nothing that trains or embeds minds."""

from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from audio_barlow_twins.model.embedder import frozen
from audio_barlow_twins.model.encoders import build_encoder
from audio_barlow_twins.shards.stored.shardset import ShardSet
from audio_barlow_twins.train.config import OptimiserConfig, TrainConfig
from audio_barlow_twins.train.step.trainer import Trainer

PROJECTION = {"encoder.patch_embed.proj.weight", "encoder.patch_embed.proj.bias"}


@pytest.fixture
def vit(config: TrainConfig) -> TrainConfig:
    return replace(config, encoder="vit-t-16x8", encoder_options=("depth=1",))


@pytest.mark.parametrize("kind", ["lars", "adamw"])
@pytest.mark.parametrize(
    ("options", "kept"),
    [(("depth=1",), PROJECTION), (("depth=1", "projection=trained"), set[str]())],
)
def test_the_optimiser_holds_and_changes_all_but_what_is_frozen(
    vit: TrainConfig, shard_set: ShardSet, kind: str, options: tuple[str, ...], kept: set[str]
) -> None:
    optimiser = OptimiserConfig(kind=kind, weight_decay=0.1)  # type: ignore[arg-type]
    trainer = Trainer(replace(vit, encoder_options=options, optimiser=optimiser), shard_set)
    names = {parameter: name for name, parameter in trainer.network.named_parameters()}
    held = [names[p] for group in trainer.optimiser.param_groups for p in group["params"]]
    assert sorted(held) == sorted(set(names.values()) - kept)
    before = {name: p.detach().clone() for p, name in names.items()}
    for _, batch in zip(range(2), trainer.batches(), strict=False):
        trainer.take_step(batch)
    assert {name for p, name in names.items() if torch.equal(p, before[name])} == kept


def test_its_checkpoint_embeds_sounds(
    vit: TrainConfig, shard_set: ShardSet, sounds: torch.Tensor
) -> None:
    model = frozen(Trainer(vit, shard_set).checkpoint(), "cpu")
    assert model(sounds).shape == (len(sounds), 192)
    assert not any(p.requires_grad for p in model.parameters())


def test_distributed_training_leaves_it_out() -> None:
    torch.manual_seed(0)
    alone = build_encoder("vit-t-16x8", {"depth": 1})
    x = torch.randn(2, 96, 64)
    alone(x).square().sum().backward()
    wanted = {name: p.grad for name, p in alone.named_parameters()}
    alone.zero_grad()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        shared = DistributedDataParallel(alone, gradient_as_bucket_view=True)
        for _ in range(2):  # the second pass would complain of gradients that did not come
            alone.zero_grad()
            shared(x).square().sum().backward()
        found = {name: p.grad for name, p in alone.named_parameters()}
    finally:
        dist.destroy_process_group()
    assert {name for name, grad in found.items() if grad is None} == {
        name.removeprefix("encoder.") for name in PROJECTION
    }
    torch.testing.assert_close(found, wanted)

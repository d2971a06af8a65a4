"""Training from shards on a real S3 server: the same run as from the same shards on a disk."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from s3_server import S3Server

from audio_barlow_twins.model.checkpoint import load_checkpoint
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.place import place
from audio_barlow_twins.shards.read.remote.folder import CacheOptions
from audio_barlow_twins.shards.stored.form import logmel_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.shardset import open_shards
from audio_barlow_twins.train.config import TrainConfig
from audio_barlow_twins.train.run.folder import RunFolder
from audio_barlow_twins.train.run.session import train
from audio_barlow_twins.train.step.trainer import Trainer


@pytest.fixture
def remote(s3: S3Server, write_set: Callable[..., Path], arrays: dict[str, np.ndarray]) -> str:
    """Put the set of `shards` on the server."""
    url = f"{s3.url()}/set"
    write_set(place(url), logmel_form(FrontEnd()), arrays)
    return url


def weights(config: TrainConfig) -> dict[str, torch.Tensor]:
    return load_checkpoint(config.run / "encoder.pt").state


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("block_shards", [0, 1])
def test_a_run_from_a_store_equals_the_local_one(
    config: TrainConfig, remote: str, tmp_path: Path, block_shards: int
) -> None:
    config = replace(config, block_shards=block_shards, preflight=False)
    train(config)
    cache = CacheOptions(folder=tmp_path / "cache")
    from_store = replace(config, shards=remote, run=tmp_path / "remote", cache=cache)
    train(from_store)
    expected = weights(config)
    assert all(torch.equal(value, expected[name]) for name, value in weights(from_store).items())
    assert list((tmp_path / "cache").rglob("*.tar"))


@pytest.mark.usefixtures("one_thread")
def test_a_run_goes_on_from_a_store_where_it_stopped_on_a_disk(
    config: TrainConfig, remote: str, tmp_path: Path
) -> None:
    config = replace(config, preflight=False)
    train(config)
    begun = replace(config, run=tmp_path / "begun")
    trainer = Trainer(begun, open_shards(config.shards))
    for _, batch in zip(range(3), trainer.batches(), strict=False):
        trainer.take_step(batch)
    RunFolder(begun).save(trainer.checkpoint())
    cache = CacheOptions(folder=tmp_path / "cache")
    train(replace(begun, shards=remote, cache=cache, resume=True))
    expected = weights(config)
    assert all(torch.equal(value, expected[name]) for name, value in weights(begun).items())
    with pytest.raises(UserError, match="keep its settings to resume it"):
        train(replace(config, shards=remote, cache=cache, resume=True, block_shards=1))


def test_a_cache_that_cannot_hold_the_set_is_refused_before_the_first_step(
    config: TrainConfig, remote: str, tmp_path: Path
) -> None:
    cache = CacheOptions(folder=tmp_path / "cache", max_bytes=1000)
    with pytest.raises(UserError, match="give it at least max_bytes=819200"):
        train(replace(config, shards=remote, cache=cache))

"""Whole shards that are read ahead of their use."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import arrays_of, noise_set, small_form
from test_crop_reader import crop_threads, slices
from waiting import HANG_S

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.read import whole
from audio_barlow_twins.shards.read.order import Order
from audio_barlow_twins.shards.read.reader import CropReader
from audio_barlow_twins.shards.stored.shardset import ShardSet, open_shards

LENGTHS = [[300 + 10 * i] * 6 for i in range(7)]
PER_SHARD, BLOCK = 6, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noise_set(tmp_path_factory.mktemp("whole") / "set", small_form("logmel"), LENGTHS)


def reading(folder: Path, **options: Any) -> CropReader:
    defaults: dict[str, Any] = {"batch": 3, "ahead": 0, "block_shards": BLOCK}
    return CropReader(folder, frames=50, unit="shards", **{**defaults, **options})


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The shards that were read in order, in turn."""
    shards: list[int] = []
    read_in_order = whole.read_in_order

    def noting(shard_set: ShardSet, shard: int) -> Iterator[int]:
        yield from read_in_order(shard_set, shard)
        shards.append(shard)

    monkeypatch.setattr(whole, "read_in_order", noting)
    return shards


@pytest.mark.parametrize("first_step", [0, 9, 40])
@pytest.mark.parametrize("ahead", [0, 1, 7])
def test_crops_are_those_of_the_set_and_every_block_is_read_once_before_them(
    folder: Path, seen: list[int], first_step: int, ahead: int
) -> None:
    arrays, order = arrays_of(folder), Order(open_shards(folder), frames=50, block_shards=BLOCK)
    with reading(folder, ahead=ahead) as reader:
        for batch in reader.batches(first_step, n_steps=60):
            np.testing.assert_array_equal(batch.crops.numpy(), slices(batch, arrays))
            got = reader.shard_set.shard_of(batch.clips)
            assert set(got.tolist()) <= set(seen)
    clips = order.crops(np.arange(3 * first_step, 3 * (first_step + 60)))
    blocks = [block for block, _ in order.by_block(clips)]
    expected = [
        np.flatnonzero(order.blocks(block // order.n_blocks) == block % order.n_blocks).tolist()
        for block in range(blocks[0], blocks[-1] + 1)
    ]
    flat = [shard for shards in expected for shard in shards]
    assert seen[: len(flat)] == flat
    beyond = (ahead + 1) * 3 // (PER_SHARD * BLOCK) + 2
    assert len(seen) <= len(flat) + beyond * BLOCK


def test_no_more_than_the_next_block_is_read_ahead(folder: Path, seen: list[int]) -> None:
    with reading(folder) as reader:
        batches = reader.batches()
        for _ in range(3):  # of four in the first block
            next(batches)
        while len(seen) < 2 * BLOCK:
            assert crop_threads()
        reader._stop.wait(0.05)
        assert len(seen) == 2 * BLOCK


def test_the_last_byte_of_every_tar_is_asked_for(folder: Path) -> None:
    shard_set = open_shards(folder)
    for shard, size in enumerate(shard_set.tar_bytes):
        assert sum(whole.read_in_order(shard_set, shard)) == size


def test_leaving_ends_the_thread_in_the_middle_of_a_block(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()

    def endless(*_: Any) -> Iterator[int]:
        while True:
            goes_on.set()
            yield 1

    monkeypatch.setattr(whole, "read_in_order", endless)
    reader = reading(folder)
    batches = reader.batches()
    failed: list[BaseException] = []

    def consume() -> None:
        try:
            next(batches)
        except ValueError as error:
            failed.append(error)

    thread = threading.Thread(target=consume)
    thread.start()
    assert goes_on.wait(HANG_S)
    reader.close()
    thread.join(HANG_S)
    assert "the reader was closed" in str(failed[0])
    assert not crop_threads()


def test_a_tar_that_is_cut_or_gone_is_named(folder: Path, tmp_path: Path) -> None:
    other = noise_set(tmp_path / "set", small_form("logmel"), LENGTHS)
    with reading(other) as reader:
        os.truncate(other / "shard-000003.tar", 1000)
        with pytest.raises(UserError, match=r"shard-000003\.tar has 1000 bytes, written were"):
            list(reader.batches(n_steps=60))
    assert not crop_threads()

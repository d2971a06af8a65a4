"""What the reader chooses to read ahead, on storage whose latency is known."""

import math
import os
import time
from pathlib import Path

import numpy as np
import pytest
from making import arrays_of, noise_set, small_form
from slow_storage import slow_storage
from test_crop_reader import slices

from audio_barlow_twins.shards.read import local, tune
from audio_barlow_twins.shards.read.reader import CropReader
from audio_barlow_twins.shards.read.tune import clip_in_order_s, follow_advice, time_batches

SLOW_S = 0.02
"""Long beside what a busy machine adds to it."""
BATCH = 4
PLENTY = [[400] * 500] * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noise_set(tmp_path_factory.mktemp("tune") / "set", small_form("wave"), PLENTY)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "READ_S", 0.25)


def reading(folder: Path, **options) -> CropReader:
    return CropReader(folder, frames=100, batch=BATCH, **options)


def test_the_depth_is_doubled_until_storage_gives_no_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine changes the rate by more than 5 % within so short a time; a depth that helps
    # doubles it.
    monkeypatch.setattr(tune, "LEAST_GAIN", 1.3)
    # Half of the batches are on their way: 8 ahead keep 16 to 20 crops in flight, 4 some 10. If 8
    # do not quite suffice, 16 do, and the set has batches enough for the two doublings after it.
    with slow_storage(SLOW_S, depth=16), reading(folder) as reader:
        found = tune.tune(reader, 0, enough_s=0)
    assert found.limit
    assert found.advice == "heeded"
    assert found.ahead == reader.ahead
    assert found.ahead in (8, 16)
    assert not found.cached


def test_a_depth_that_is_given_is_kept(folder: Path) -> None:
    with slow_storage(SLOW_S, depth=32), reading(folder, ahead=2) as reader:
        found = tune.tune(reader, 0, enough_s=0, ahead=False)
    assert (found.ahead, reader.ahead, found.limit) == (2, 2, False)


def test_what_is_quick_enough_is_not_tuned(folder: Path) -> None:
    with slow_storage(SLOW_S, depth=32) as storage, reading(folder) as reader:
        found = tune.tune(reader, 0, enough_s=1)
    assert (found.ahead, found.limit, found.in_order) == (4, False, 0)
    assert storage.requests


def test_files_in_memory_are_called_so(folder: Path) -> None:
    with reading(folder) as reader:
        for _ in reader.batches(n_steps=len(reader.shard_set) // BATCH):
            pass  # now they are
        found = tune.tune(reader, 0, enough_s=0)
    assert found.cached
    assert found.ahead == 4


def test_memory_bounds_the_depth(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "MOST_BYTES", 8 * BATCH * 200)
    with slow_storage(SLOW_S, depth=100), reading(folder) as reader:
        found = tune.tune(reader, 0, enough_s=0)
    assert (found.ahead, found.limit) == (8, False)


def test_depths_are_tried_within_one_epoch(tmp_path: Path) -> None:
    # More would find in memory what was read before, and be called faster for it.
    few = noise_set(tmp_path / "set", small_form("wave"), [[400] * 100] * 4)
    with slow_storage(SLOW_S, depth=1000) as storage, reading(few) as reader:
        found = tune.tune(reader, 0, enough_s=0, unit=False)
        assert found.ahead in (8, 16)
        assert not found.limit
        assert storage.requests <= len(reader.shard_set) + 2 * tune.PROBES


def test_crops_that_no_advice_brings_are_found_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with slow_storage(0.005, depth=32, heeds=False), reading(folder) as reader:
        assert follow_advice(reader, 10) == "ignored"
    with slow_storage(0.005, depth=1), reading(folder) as reader:
        assert follow_advice(reader, 10) == "heeded"
    monkeypatch.setattr(local, "MAY_ANNOUNCE", False)
    monkeypatch.setattr(tune, "MAY_ANNOUNCE", False)
    with slow_storage(0.005, depth=32), reading(folder) as reader:
        assert follow_advice(reader, 10) == "missing"
        seconds, missed, _ = time_batches(reader, 20)
        assert missed == 1
        assert seconds > BATCH * 0.005  # one after the other


@pytest.mark.parametrize("missing", ["posix_fadvise", "RWF_NOWAIT"])
def test_a_system_that_lacks_a_call_reads_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "posix_fadvise":
        monkeypatch.setattr(local, "MAY_ANNOUNCE", False)
    monkeypatch.delattr(os, missing)
    arrays = arrays_of(folder)
    with reading(folder) as reader:
        for batch in reader.batches(n_steps=50):
            np.testing.assert_array_equal(batch.crops.numpy(), slices(batch, arrays))
            assert batch.cached or missing == "RWF_NOWAIT"


def test_whole_shards_are_taken_where_they_come_more_quickly(folder: Path) -> None:
    arrays = arrays_of(folder)
    with slow_storage(0.005, depth=1), reading(folder, block_shards=1) as reader:
        found = tune.tune(reader, 0, enough_s=0)
        assert found.unit == reader.unit == "shards"
        assert reader.batch / found.seconds == pytest.approx(found.in_order)
        for batch in reader.batches(3, n_steps=300):
            np.testing.assert_array_equal(batch.crops.numpy(), slices(batch, arrays))


def test_whole_shards_are_not_taken_without_blocks_or_where_crops_were_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with slow_storage(0.005, depth=1), reading(folder) as reader:
        found = tune.tune(reader, 0, enough_s=0)
        assert found.in_order > reader.batch / found.seconds
        assert found.unit == "crops"  # the only block is all of it
    with slow_storage(0.005, depth=1), reading(folder, block_shards=1) as reader:
        assert tune.tune(reader, 0, enough_s=0, unit=False).unit == "crops"
    monkeypatch.setattr(os, "sysconf", lambda name: 100)  # 10,000 bytes of memory
    with slow_storage(0.005, depth=1), reading(folder, block_shards=1) as reader:
        assert tune.tune(reader, 0, enough_s=0).unit == "crops"


def test_all_processes_choose_by_the_slowest(folder: Path) -> None:
    asked = []

    def slowest(values: list[float]) -> list[float]:
        asked.append(values)
        return [max(values[0], 0.5), *values[1:]]  # another one takes half a second a batch

    with slow_storage(SLOW_S, depth=32), reading(folder) as reader:
        found = tune.tune(reader, 0, enough_s=0, unit=False, slowest=slowest)
    assert (found.seconds, found.limit, found.ahead) == (0.5, True, 4)
    assert len(asked) == 4  # three depths, whole shards


def test_whole_shards_are_counted_by_their_bytes(folder: Path) -> None:
    with slow_storage(SLOW_S, depth=1) as storage, reading(folder) as reader:
        begin = time.perf_counter()
        assert 0 < clip_in_order_s(reader) * len(reader.shard_set) < time.perf_counter() - begin
        assert not storage.requests


def test_whole_shards_that_do_not_stay_in_memory_are_of_no_use(folder: Path) -> None:
    with slow_storage(0.005, depth=1) as storage, reading(folder, block_shards=1) as reader:
        storage.keeps = False
        found = tune.tune(reader, 0, enough_s=0)
    assert (found.unit, found.in_order) == ("crops", 0)
    with slow_storage(0.005, depth=1) as storage, reading(folder) as reader:
        storage.keeps = False
        assert clip_in_order_s(reader) == math.inf

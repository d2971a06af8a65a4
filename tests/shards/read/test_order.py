"""The order of clips and crops: permutations, uniform, and a function of its keys alone."""

import json
from collections import Counter
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import python, small_form
from scipy.stats import chi2_contingency, chisquare

from audio_barlow_twins.shards.read.order import Order, hash64
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.shardset import ShardSet
from audio_barlow_twins.shards.stored.statistics import Statistics

sizes_of_shards = st.lists(st.integers(1, 12), min_size=1, max_size=9)


def index(
    sizes: list[int], n_frames: int | np.ndarray = 100, fingerprint: str = "f" * 32
) -> ShardSet:
    """An index of shards with that many clips; the order looks at no file."""
    total = sum(sizes)
    return ShardSet(
        folder=Path("nowhere"),
        form=small_form("logmel"),
        names=[f"shard-{i:06d}" for i in range(len(sizes))],
        first=np.cumsum([0, *sizes]),
        tar_bytes=[0] * len(sizes),
        offsets=np.zeros(total, np.int64),
        n_frames=np.broadcast_to(np.asarray(n_frames, np.int32), total),
        statistics=Statistics(),
        fingerprint=fingerprint,
    )


def epoch_of(order: Order, epoch: int) -> np.ndarray:
    n = len(order.shard_set)
    epochs, clips = order.clips(np.arange(epoch * n, (epoch + 1) * n))
    assert (epochs == epoch).all()
    return clips


def test_the_hash_is_splitmix64() -> None:
    # The first numbers of the public generator for the seeds 0 and 1234567; it adds the golden
    # gamma before every number, as our hash does once.
    published = {
        0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC],
        1234567: [6457827717110365317, 3203168211198807973, 9817491932198370423],
    }
    for seed, numbers in published.items():
        states = [(seed + i * 0x9E3779B97F4A7C15) % 2**64 for i in range(len(numbers))]
        assert hash64(np.array(states, np.uint64)).tolist() == numbers


@given(values=st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_the_hash_equals_arithmetic_in_whole_numbers(values: list[int]) -> None:
    def finalise(z: int) -> int:
        z = (z + 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    array = np.array(values, np.uint64)
    assert hash64(array).tolist() == [finalise(value) for value in values]
    assert array.tolist() == values  # the argument is left alone


@given(
    sizes=sizes_of_shards,
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 10**12),
    block_shards=st.integers(0, 12),
)
def test_every_epoch_is_a_permutation(
    sizes: list[int], seed: int, epoch: int, block_shards: int
) -> None:
    order = Order(index(sizes), frames=10, seed=seed, block_shards=block_shards)
    assert sorted(epoch_of(order, epoch)) == list(range(sum(sizes)))


@given(sizes=sizes_of_shards, positions=st.lists(st.integers(0, 500), min_size=1, max_size=50))
def test_a_position_has_its_clip_whatever_is_asked_beside_it(
    sizes: list[int], positions: list[int]
) -> None:
    together = Order(index(sizes), frames=10).clips(np.array(positions))
    one_by_one = [Order(index(sizes), frames=10).clips(np.array([i])) for i in positions]
    assert together[0].tolist() == [int(epoch[0]) for epoch, _ in one_by_one]
    assert together[1].tolist() == [int(clip[0]) for _, clip in one_by_one]


def numbers_of(order: Order) -> list[list[int]]:
    """Clips and starts of the epochs 0 and 7."""
    clips = [epoch_of(order, epoch) for epoch in (0, 7)]
    starts = [order.starts(np.full_like(c, e), c) for c, e in zip(clips, (0, 7), strict=True)]
    return [array.tolist() for array in (*clips, *starts)]


def fixed_order(fingerprint: str = "f" * 32, seed: int = 3, block_shards: int = 0) -> Order:
    lengths = 100 + np.arange(90)
    shard_set = index([30, 40, 20], lengths, fingerprint)
    return Order(shard_set, frames=96, seed=seed, block_shards=block_shards)


def keyed_values() -> list:
    """Everything that must be the same in every process: digests of front-ends, and orders."""
    digests = [FrontEnd().digest(), FrontEnd(hop=320).digest()]
    return [digests, numbers_of(fixed_order()), numbers_of(fixed_order(block_shards=2))]


def test_a_fresh_process_gives_the_same_digests_and_orders() -> None:
    code = (
        "import json, sys; sys.path[:0] = ['tests/shards/read', 'tests/shards']\n"
        "from test_order import keyed_values; print(json.dumps(keyed_values()))"
    )
    output, errors = python("-c", code).communicate()
    assert output, errors
    assert json.loads(output) == keyed_values()


def test_another_epoch_seed_or_fingerprint_gives_another_order_and_other_crops() -> None:
    variants = [
        numbers_of(fixed_order()),
        numbers_of(fixed_order(seed=4)),
        numbers_of(fixed_order(fingerprint="e" * 32)),
    ]
    clips = [tuple(numbers[epoch]) for numbers in variants for epoch in (0, 1)]
    # The starts in the order of clips, so that they can be compared across permutations.
    starts = [
        tuple(np.array(numbers[2 + epoch])[np.argsort(numbers[epoch])])
        for numbers in variants
        for epoch in (0, 1)
    ]
    assert len(set(clips)) == len(set(starts)) == 6


def test_every_permutation_of_four_clips_is_equally_frequent() -> None:
    order = Order(index([4]), frames=10)
    seen = Counter(tuple(epoch_of(order, epoch).tolist()) for epoch in range(2400))
    assert chisquare([seen[p] for p in permutations(range(4))]).pvalue > 1e-3


def test_crop_starts_are_uniform_and_do_not_follow_from_clip_or_epoch() -> None:
    n_starts = 13
    order = Order(index([40_000], n_frames=96 + n_starts - 1), frames=96)
    clips = np.arange(40_000)
    first, second = (order.starts(np.full_like(clips, epoch), clips) for epoch in (0, 1))
    assert chisquare(np.bincount(first, minlength=n_starts)).pvalue > 1e-3
    for one, other in [(first[:-1], first[1:]), (first, second), (first, clips % n_starts)]:
        table = np.zeros((n_starts, n_starts))
        np.add.at(table, (one, other), 1)
        assert chi2_contingency(table).pvalue > 1e-3


@given(
    frames=st.integers(1, 300),
    lengths=st.lists(st.integers(0, 2**31 - 1) | st.integers(0, 300), min_size=1, max_size=20),
    epoch=st.integers(0, 10**9),
)
def test_a_crop_lies_inside_its_clip_and_a_short_clip_starts_at_its_begin(
    frames: int, lengths: list[int], epoch: int
) -> None:
    order = Order(index([len(lengths)], np.array(lengths)), frames=frames)
    clips = np.arange(len(lengths))
    starts = order.starts(np.full_like(clips, epoch), clips)
    for start, length in zip(starts.tolist(), lengths, strict=True):
        assert 0 <= start <= max(0, length - frames)


def test_the_first_and_the_last_start_both_occur() -> None:
    order = Order(index([1000], n_frames=97), frames=96)
    clips = np.arange(1000)
    assert set(order.starts(np.zeros_like(clips), clips).tolist()) == {0, 1}


@given(sizes=sizes_of_shards, block_shards=st.integers(1, 9), epoch=st.integers(0, 1000))
def test_the_clips_of_a_block_of_shards_come_together(
    sizes: list[int], block_shards: int, epoch: int
) -> None:
    shard_set = index(sizes)
    order = Order(shard_set, frames=10, block_shards=block_shards)
    shards = np.repeat(np.arange(len(sizes)), sizes)[epoch_of(order, epoch)]
    places = [np.flatnonzero(shards == shard) for shard in range(len(sizes))]
    places.sort(key=lambda place: place.mean())
    blocks = [
        np.concatenate(places[i : i + block_shards]) for i in range(0, len(sizes), block_shards)
    ]
    for earlier, later in pairwise(blocks):
        assert earlier.max() < later.min()


def test_blocks_are_made_of_other_shards_in_every_epoch_and_mixed_inside() -> None:
    order = Order(index([20] * 8), frames=10, block_shards=2)
    first_blocks = set()
    for epoch in range(20):
        shards = epoch_of(order, epoch) // 20
        assert len(set(shards[:40])) == 2
        assert len(set(shards[:20])) == 2  # not one shard after the other
        first_blocks.add(frozenset(shards[:40].tolist()))
    assert len(first_blocks) > 10


@pytest.mark.parametrize("block_shards", [0, 8, 99])
def test_a_block_of_all_shards_is_the_plain_shuffle(block_shards: int) -> None:
    plain = Order(index([20] * 8), frames=10)
    blocked = Order(index([20] * 8), frames=10, block_shards=block_shards)
    assert (epoch_of(plain, 2) == epoch_of(blocked, 2)).all()

"""Random streams: a plain reference, distributions, independence, and independence of place."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from audio_barlow_twins.train.views.draws import Draws, sample_keys

WORD = 2**64
GAMMA = 0x9E3779B97F4A7C15


def splitmix64(state: int) -> int:
    """Scramble one 64-bit word, in Python's integers."""
    z = state % WORD
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def unmix(word: int) -> int:
    """Undo `splitmix64`."""
    for shift, factor in ((31, 0x94D049BB133111EB), (27, 0xBF58476D1CE4E5B9)):
        word = unshift(word, shift) * pow(factor, -1, WORD) % WORD
    return unshift(word, 30)


def unshift(word: int, shift: int) -> int:
    """Undo `z ^ (z >> shift)`."""
    result = word
    for _ in range(64 // shift):
        result = word ^ (result >> shift)
    return result


def signed(word: int) -> int:
    """Read 64 bits as a signed integer."""
    return word - WORD if word >= WORD // 2 else word


def make_keys(n: int, seed: int = 5, view: int = 0) -> Tensor:
    """Make the keys of the first `n` clips in epoch 0."""
    return sample_keys(seed, torch.tensor(0), torch.arange(n), view)


def test_streams_are_the_published_splitmix64_sequence() -> None:
    # The first outputs for seed 1234567, as listed by the public test vectors.
    words = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    draws = Draws(torch.tensor([1234567]))
    for word in words:
        assert float(draws.uniform(0, 1)) == (word >> 40) / 2**24


@settings(deadline=None, max_examples=100)
@given(key=st.integers(-(2**63), 2**63 - 1), high=st.integers(1, 2**31))
def test_numbers_equal_those_of_plain_integers(key: int, high: int) -> None:
    draws = Draws(torch.tensor([key]))
    for call in range(1, 4):
        word = splitmix64(key + call * GAMMA)
        assert draws.integers(high).tolist() == [(word >> 32) * high >> 32]
    assert float(draws.uniform(0, 1)) == (splitmix64(key + 4 * GAMMA) >> 40) / 2**24


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(-(2**63), 2**64),
    epoch=st.integers(0, 10**6),
    clip=st.integers(0, 2**40),
    view=st.integers(0, 1),
)
def test_keys_equal_those_of_plain_integers(seed: int, epoch: int, clip: int, view: int) -> None:
    expected = splitmix64(seed + GAMMA)
    for part in (epoch, clip, view):
        expected = splitmix64((expected ^ part) + GAMMA)
    keys = sample_keys(seed, torch.tensor(epoch), torch.tensor([clip]), view)
    assert keys.tolist() == [signed(expected)]


def test_keys_differ_between_seeds_epochs_clips_and_views() -> None:
    clips = torch.arange(100)
    keys = [
        sample_keys(seed, torch.full((100,), epoch), clips, view)
        for seed in range(5)
        for epoch in range(5)
        for view in range(2)
    ]
    assert len(torch.cat(keys).unique()) == 5 * 5 * 2 * 100


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (0.6, 1.5), (0, 0.2)])
def test_uniform_numbers_are_uniform(low: float, high: float) -> None:
    numbers = Draws(make_keys(50_000)).uniform(low, high)
    assert numbers.dtype == torch.float32
    assert stats.kstest(numbers, stats.uniform(low, high - low).cdf).pvalue > 1e-3


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (0.6, 1.5), (0, 0.2), (3, 3)])
def test_uniform_numbers_stay_below_the_upper_bound(low: float, high: float) -> None:
    keys = [signed((unmix(word) - GAMMA) % WORD) for word in (WORD - 1, 0)]
    largest, smallest = Draws(torch.tensor(keys)).uniform(low, high)
    assert smallest == np.float32(low)
    assert largest < np.float32(high) or low == high


@pytest.mark.parametrize("high", [1, 2, 7, 49, 2048])
def test_integers_are_uniform(high: int) -> None:
    numbers = Draws(make_keys(50_000)).integers(high)
    counts = torch.bincount(numbers, minlength=high)
    assert len(counts) == high
    assert high == 1 or stats.chisquare(counts).pvalue > 1e-3


def test_every_sample_may_have_its_own_bound() -> None:
    high = torch.arange(1, 50_001) % 97 + 1
    draws = Draws(make_keys(50_000))
    numbers = draws.integers(high)
    assert numbers.dtype == torch.int64
    assert bool((numbers >= 0).all())
    assert bool((numbers < high).all())
    assert stats.kstest((numbers + draws.uniform(0, 1)) / high, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("high", [0, -1, 2**31 + 1])
def test_impossible_bounds_are_refused(high: int) -> None:
    with pytest.raises(ValueError, match="choose from"):
        Draws(make_keys(1)).integers(high)


def test_calls_and_neighbouring_keys_and_views_are_independent() -> None:
    n = 20_000
    a, b = Draws(make_keys(n + 1)), Draws(make_keys(n + 1, view=1))
    first, second, other = a.uniform(0, 1), a.uniform(0, 1), b.uniform(0, 1)
    late, early = first[1:], first[:-1]
    for x, y in ((first, second), (late, early), (first, other), (second[1:], early)):
        counts = np.histogram2d(x.numpy(), y.numpy(), bins=8, range=[[0, 1], [0, 1]])[0]
        assert stats.chisquare(counts.ravel()).pvalue > 1e-3


@settings(deadline=None, max_examples=30)
@given(order=st.permutations(range(12)))
def test_numbers_follow_their_keys_through_a_permutation(order: list[int]) -> None:
    keys = make_keys(12)
    straight, permuted = Draws(keys), Draws(keys[order])
    for _ in range(3):
        assert torch.equal(straight.uniform(-1, 1)[order], permuted.uniform(-1, 1))
        assert torch.equal(straight.integers(1000)[order], permuted.integers(1000))


@pytest.mark.parametrize("keys", [torch.zeros(3), torch.zeros(2, 2, dtype=torch.int64)])
def test_keys_of_another_kind_are_refused(keys: Tensor) -> None:
    with pytest.raises(ValueError, match="sample_keys"):
        Draws(keys)

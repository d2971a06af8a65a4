"""Random streams: a plain reference, distributions, independence, and independence of place."""

import math
import re

import numpy as np
import pytest
import torch
from drawing import (
    GAMMA,
    WORD,
    keys_of,
    plain_integers,
    plain_uniforms,
    plain_words,
    signed,
    splitmix64,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from audio_barlow_twins.train.views import draws as module
from audio_barlow_twins.train.views.draws import (
    WORD as BITS,
)
from audio_barlow_twins.train.views.draws import (
    Draws,
    Range,
    below,
    normals,
    sample_keys,
)

UNIT = Range(0, 1)
keys_strategy = st.integers(-(2**63), 2**63 - 1)


def draw(keys: Tensor, **kinds: Range | None) -> dict[str, Tensor]:
    """Draw for one view."""
    return Draws({"view": kinds})(keys)["view"]


def test_the_hash_is_the_published_splitmix64_sequence() -> None:
    # The first outputs for seed 1234567, as listed by the public test vectors.
    words = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [splitmix64(1234567 + n * GAMMA) for n in (1, 2, 3)] == words
    states = torch.tensor([signed((1234567 + n * GAMMA) % WORD) for n in (1, 2, 3)])
    assert [word % WORD for word in module._mix(states).tolist()] == words


@settings(deadline=None, max_examples=100)
@given(key=keys_strategy, high=st.integers(1, 2**31), name=st.text(max_size=9))
def test_numbers_equal_those_of_plain_integers(key: int, high: int, name: str) -> None:
    keys = torch.tensor([key])
    kinds = {"first": UNIT, "second": BITS, "third": Range(-3, 5), "last": Range(1, 8, True)}
    drawn = Draws({"other": {"number": UNIT}, name: kinds})(keys)[name]
    assert drawn["first"].tolist() == plain_uniforms(keys, name, 1, 0, 1)
    assert drawn["second"].tolist() == [signed(word) for word in plain_words(keys, name, 2)]
    assert below(drawn["second"], high).tolist() == plain_integers(keys, name, 2, high)
    assert drawn["third"].tolist() == pytest.approx(plain_uniforms(keys, name, 3, -3, 5), abs=1e-6)
    (exponent,) = plain_uniforms(keys, name, 4, 0, 3)
    assert drawn["last"].item() == pytest.approx(2**exponent, rel=1e-6)


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
    keys = sample_keys(seed, np.array([epoch]), np.array([clip]))
    assert keys.dtype == np.int64
    assert keys[view].tolist() == [signed(expected)]


def test_keys_differ_between_seeds_epochs_clips_and_views() -> None:
    keys = [
        sample_keys(seed, np.full(100, epoch), np.arange(100))
        for seed in range(5)
        for epoch in range(5)
    ]
    assert len(np.unique(np.concatenate(keys))) == 5 * 5 * 2 * 100


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (0.6, 1.5), (0, 0.2)])
def test_uniform_numbers_are_uniform(low: float, high: float) -> None:
    numbers = draw(keys_of(50_000), x=Range(low, high))["x"]
    assert numbers.dtype == torch.float32
    assert stats.kstest(numbers, stats.uniform(low, high - low).cdf).pvalue > 1e-3


def test_octaves_have_equal_chances() -> None:
    octaves = draw(keys_of(30_000), x=Range(100, 1600, octaves=True))["x"].log2()
    assert stats.kstest(octaves, stats.uniform(math.log2(100), 4).cdf).pvalue > 1e-3
    assert draw(keys_of(9), x=Range(440, 440, octaves=True))["x"].tolist() == [440] * 9


@pytest.mark.parametrize("octaves", [False, True])
@pytest.mark.parametrize(("low", "high"), [(0.5, 1), (1, 3), (0.6, 1.5), (0.1, 0.2), (3, 3)])
def test_uniform_numbers_stay_in_their_range(
    low: float, high: float, octaves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    extremes = torch.tensor([[-1, 0]])  # all bits set, none set
    monkeypatch.setattr(module, "_mix", lambda bits: extremes)
    largest, smallest = draw(torch.zeros(2, dtype=torch.int64), x=Range(low, high, octaves))["x"]
    assert smallest == pytest.approx(low, rel=1e-6)
    assert smallest >= np.float32(low)
    assert largest <= np.float32(high)
    assert octaves or largest < np.float32(high) or low == high


@pytest.mark.parametrize("high", [1, 2, 7, 49, 2048])
def test_integers_are_uniform(high: int) -> None:
    numbers = below(draw(keys_of(50_000), x=BITS)["x"], high)
    counts = torch.bincount(numbers, minlength=high)
    assert len(counts) == high
    assert high == 1 or stats.chisquare(counts).pvalue > 1e-3


def test_every_sample_may_have_its_own_bound() -> None:
    high = torch.arange(1, 50_001) % 97 + 1
    drawn = draw(keys_of(50_000), x=BITS, y=UNIT)
    numbers = below(drawn["x"], high)
    assert numbers.dtype == torch.int64
    assert bool((numbers >= 0).all())
    assert bool((numbers < high).all())
    assert stats.kstest((numbers + drawn["y"]) / high, "uniform").pvalue > 1e-3


def test_normal_numbers_are_normal_and_the_first_do_not_depend_on_the_count() -> None:
    words = draw(keys_of(400), x=BITS)["x"]
    numbers = normals(words, 101)
    assert numbers.shape == (400, 101)
    assert torch.equal(normals(words, 7), numbers[:, :7])
    assert stats.kstest(numbers.flatten(), stats.norm.cdf).pvalue > 1e-3
    likeness = torch.corrcoef(numbers).fill_diagonal_(0)
    assert float(likeness.abs().max()) < 0.5


def test_numbers_and_neighbouring_keys_and_views_are_independent() -> None:
    n = 20_000
    views = {"a": {"first": UNIT, "second": UNIT}, "b": {"first": UNIT}}
    drawn = Draws(views)(keys_of(n + 1))
    other = Draws(views)(keys_of(n + 1, view=1))["a"]["first"]
    first, second = drawn["a"]["first"], drawn["a"]["second"]
    late, early = first[1:], first[:-1]
    pairs = [(first, second), (late, early), (first, other), (second[1:], early)]
    for x, y in [*pairs, (first, drawn["b"]["first"])]:
        counts = np.histogram2d(x.numpy(), y.numpy(), bins=8, range=[[0, 1], [0, 1]])[0]
        assert stats.chisquare(counts.ravel()).pvalue > 1e-3


@settings(deadline=None, max_examples=30)
@given(order=st.permutations(range(12)))
def test_numbers_follow_their_keys_through_a_permutation(order: list[int]) -> None:
    keys, kinds = keys_of(12), {"x": Range(-1, 1), "y": BITS}
    straight, permuted = draw(keys, **kinds), draw(keys[order], **kinds)
    assert all(torch.equal(straight[name][order], permuted[name]) for name in kinds)


def test_what_a_view_draws_depends_on_no_other_view() -> None:
    keys, mine = keys_of(50), {"x": Range(1, 2, True), "y": BITS, "z": UNIT}
    alone = Draws({"mine": mine})(keys)["mine"]
    beside = Draws({"a": {"x": UNIT}, "mine": mine, "b": {"w": BITS, "x": UNIT}})(keys)["mine"]
    assert alone.keys() == beside.keys()
    assert all(torch.equal(alone[name], beside[name]) for name in alone)


def test_no_views_draw_nothing() -> None:
    assert Draws({})(keys_of(3)) == {}


@pytest.mark.parametrize("keys", [torch.zeros(3), torch.zeros(2, 2, dtype=torch.int64)])
def test_keys_of_another_kind_are_refused(keys: Tensor) -> None:
    with pytest.raises(ValueError, match=re.escape("give int64 [N], see sample_keys")):
        Draws({"view": {"x": UNIT}})(keys)

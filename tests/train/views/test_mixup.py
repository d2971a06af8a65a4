"""Mixup and its bank: the formula, distributions, and first in, first out."""

from collections import deque

import numpy as np
import pytest
import torch
from drawing import keys_of, numbers, plain_integers, plain_uniforms
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from audio_barlow_twins.train.views.bank import Bank
from audio_barlow_twins.train.views.base import ViewContext
from audio_barlow_twins.train.views.logmel import Mixup


def make_clips(n: int, seed: int = 0) -> Tensor:
    """Draw a batch of normalised log-mel."""
    return torch.randn(n, 96, 64, generator=torch.Generator().manual_seed(seed))


def make_bank(capacity: int) -> Bank:
    """Make an empty bank for such clips."""
    return Bank(capacity, (96, 64))


def mix(x: Tensor, bank: Bank) -> Tensor:
    """Mix clips with those of a bank."""
    drawn = numbers(Mixup(), keys_of(len(x)))
    return Mixup()(x, drawn, ViewContext(shape=tuple(x.shape[1:]), bank=bank))[0]


class TestMixup:
    """Mixup with clips of the bank."""

    def test_an_empty_bank_passes_clips_unchanged(self) -> None:
        x = make_clips(3)
        assert torch.equal(mix(x, make_bank(8)), x)

    @pytest.mark.parametrize("gain", [0.0, 1.0, 5.0, 60.0])
    def test_mixing_equals_the_formula_sample_by_sample(self, gain: float) -> None:
        x, earlier = gain * make_clips(40), gain * make_clips(7, seed=1)
        bank = make_bank(7)
        bank.push(earlier)
        mixed = mix(x, bank)
        shares = plain_uniforms(keys_of(40), "mixup", 1, 0, 0.2)
        ages = plain_integers(keys_of(40), "mixup", 2, 7)
        for i, clip in enumerate(x.double().numpy()):
            z, a = earlier[6 - ages[i]].double().numpy(), shares[i]
            expected = np.log((1 - a) * np.exp(clip) + a * np.exp(z) + 2.0**-23)
            np.testing.assert_allclose(mixed[i].numpy(), expected, atol=2e-6, rtol=1e-6)

    def test_a_bank_that_holds_more_than_asked_for_gives_its_last_clips(self) -> None:
        bank = Bank(64, (1, 1))
        bank.push(torch.arange(1.0, 65)[:, None, None].log())
        for memory in (1, 3, 64, 1000):
            view = Mixup(alpha=1, memory=memory)
            context = ViewContext(shape=(1, 1), bank=bank)
            drawn = view.derive(numbers(view, keys_of(5000)), context)
            assert drawn["age"].unique().tolist() == list(range(min(memory, 64)))

    def test_values_far_outside_of_the_usual_range_stay_finite(self) -> None:
        x = torch.tensor([-1e4, -200.0, 200.0, 1e4]).expand(2, 3, 4)
        bank = Bank(1, (3, 4))
        bank.push(-x[:1])
        assert bool(mix(x, bank).isfinite().all())

    @pytest.mark.parametrize(("pushed", "filled"), [(50, 50), (64, 64), (200, 64)])
    def test_share_and_partner_are_uniform_and_independent(self, pushed: int, filled: int) -> None:
        n = 20_000
        bank = Bank(64, (1, 2))
        pushed_numbers = torch.arange(1, pushed + 1).float()
        bank.push(torch.stack([torch.ones(pushed), pushed_numbers], 1)[:, None].log())
        # With x = -30, e^x counts for nothing: out is log(a) and log(a * number of the partner).
        out = mix(torch.full((n, 1, 2), -30.0), bank)
        eps = 2.0**-23
        share, product = (out.double().exp() - eps)[:, 0].T
        keep = share > 1e-3
        partner = (product / share)[keep].round().long() - 1
        assert stats.kstest(share, stats.uniform(0, 0.2).cdf).pvalue > 1e-3
        counts = torch.bincount(partner, minlength=pushed)
        assert int(counts[: pushed - filled].sum()) == 0
        assert stats.chisquare(counts[pushed - filled :]).pvalue > 1e-3
        assert stats.spearmanr(share[keep], partner).pvalue > 1e-3


class TestBank:
    """First in, first out, over many batches."""

    @settings(deadline=None, max_examples=60)
    @given(capacity=st.integers(1, 12), batches=st.lists(st.integers(1, 30), max_size=12))
    def test_the_bank_holds_the_last_clips_in_order(
        self, capacity: int, batches: list[int]
    ) -> None:
        bank, expected, clip = Bank(capacity, (1, 1)), deque[int](maxlen=capacity), 0
        for batch in batches:
            numbers = list(range(clip, clip + batch))
            bank.push(torch.tensor(numbers).float()[:, None, None])
            expected.extend(numbers)
            clip += batch
            assert int(bank.filled) == len(expected)
            assert bank.clips().flatten().tolist() == list(expected)
            ages = torch.arange(len(expected))
            assert bank.take(ages).flatten().tolist() == list(expected)[::-1]

    def test_the_bank_keeps_a_copy(self) -> None:
        bank, x = Bank(4, (3, 3)), torch.ones(2, 3, 3)
        bank.push(x)
        x.zero_()
        assert bool((bank.clips() == 1).all())

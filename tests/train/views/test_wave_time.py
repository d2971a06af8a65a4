"""Shift and mask, by plain loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from audio_barlow_twins.train.views.bank import Bank
from audio_barlow_twins.train.views.base import ViewContext
from audio_barlow_twins.train.views.time import TimeMask, TimeShift


def mask(x: Tensor, start: list[float], length_ms: float) -> Tensor:
    """Mask waveforms [N, T] of 1 kHz."""
    drawn = {"start": torch.tensor(start), "length_ms": torch.full((len(x),), length_ms)}
    return TimeMask().change(x, drawn, make_context(x.shape[1], 1000))


def make_context(n_samples: int, sample_rate: int) -> ViewContext:
    """Make a context without earlier clips."""
    bank = Bank(1, (n_samples,))
    return ViewContext(shape=(n_samples,), bank=bank, sample_rate=sample_rate)


@given(by=st.lists(st.integers(-40, 40), min_size=1, max_size=4), n_samples=st.integers(1, 30))
def test_every_sample_moves_by_its_own_time(by: list[int], n_samples: int) -> None:
    x = torch.randn(len(by), n_samples)
    drawn = {"shift_ms": torch.tensor(by) / 2.0}
    made = TimeShift().change(x, drawn, make_context(n_samples, 2000))  # 2 samples a millisecond
    for row, wave, steps in zip(made.tolist(), x.tolist(), by, strict=True):
        places = [place - steps for place in range(n_samples)]
        assert row == [wave[p] if 0 <= p < n_samples else 0 for p in places]


def test_a_mask_silences_its_length_and_ramps_inside_it() -> None:
    # 1 kHz: a piece of 10 ms, ramps of 2 ms; three quarters of the 40 places before it.
    made = mask(torch.ones(1, 50), [0.75], 10.0)[0]
    expected = torch.ones(50)
    expected[30:41] = torch.tensor([1, 0.5, 0, 0, 0, 0, 0, 0, 0, 0.5, 1])
    torch.testing.assert_close(made, expected)


@pytest.mark.parametrize("start", [0.0, 0.3, 1.0])
def test_a_mask_longer_than_the_clip_leaves_nothing_but_ramps(start: float) -> None:
    made = mask(torch.ones(1, 50), [start], 1000.0)[0]
    assert int((made > 0).sum()) <= 4


def test_a_mask_of_no_length_changes_nothing() -> None:
    x = torch.randn(3, 50)
    assert torch.equal(mask(x, [0, 0.31, 1], 0.0), x)

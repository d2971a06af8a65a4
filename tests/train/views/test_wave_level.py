"""Level: gain, fades and clipping by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from audio_barlow_twins.train.views.bank import Bank
from audio_barlow_twins.train.views.base import ViewContext, WaveView
from audio_barlow_twins.train.views.level import Clipping, Fade, Gain


def change(view: WaveView, x: Tensor, rate: int, **drawn: Tensor) -> Tensor:
    """Change waveforms [N, T] by numbers that are given, at a sample rate in Hz."""
    shape = tuple(x.shape[1:])
    return view.change(x, drawn, ViewContext(shape=shape, bank=Bank(1, shape), sample_rate=rate))


def test_twenty_decibels_are_ten_times_the_amplitude() -> None:
    x = torch.tensor([[1.0, -2], [3, 4], [5, 6]])
    made = change(Gain(), x, 1000, gain_db=torch.tensor([20.0, -20, 0]))
    torch.testing.assert_close(made, torch.tensor([[10, -20], [0.3, 0.4], [5, 6]]))


def fade(x: Tensor, table: Tensor) -> Tensor:
    """Fade waveforms of 1 kHz by rows of in_s, out_s and curve."""
    in_s, out_s, curve = table.T
    return change(Fade(), x, 1000, in_s=in_s, out_s=out_s, curve=curve)


@given(
    in_ms=st.integers(0, 60),
    out_ms=st.integers(0, 60),
    curve=st.floats(0.2, 5),
    n_samples=st.integers(1, 80),
)
def test_fades_equal_the_formula(in_ms: int, out_ms: int, curve: float, n_samples: int) -> None:
    made = fade(torch.ones(1, n_samples), torch.tensor([[in_ms / 1000, out_ms / 1000, curve]]))[0]
    for sample, value in enumerate(made.tolist()):
        head = min(sample / in_ms, 1) if in_ms else 1
        tail = min((n_samples - 1 - sample) / out_ms, 1) if out_ms else 1
        assert value == pytest.approx((head * tail) ** curve, abs=1e-5)


def test_every_sample_fades_its_own_way() -> None:
    x, table = torch.randn(3, 50), torch.tensor([[0.01, 0, 1], [0, 0.02, 2], [0.03, 0.03, 0.5]])
    together = fade(x, table)
    for row, wave, numbers in zip(together, x, table, strict=True):
        torch.testing.assert_close(row, fade(wave[None], numbers[None])[0])


def test_clipping_cuts_at_the_level_below_the_peak() -> None:
    x = torch.tensor([[0.0, 0.5, -1, 0.2], [0, 0.05, -0.1, 0.02]])
    below = torch.full((2,), 20 * float(np.log10(4)))
    expected = torch.tensor([[0, 0.25, -0.25, 0.2], [0, 0.025, -0.025, 0.02]])
    torch.testing.assert_close(change(Clipping(), x, 1000, below_peak_db=below), expected)


def test_clipping_at_the_peak_changes_nothing() -> None:
    x = torch.randn(4, 30)
    assert torch.equal(change(Clipping(), x, 1000, below_peak_db=torch.zeros(4)), x)

"""Envelopes in blocks: against scipy, and against the recursion written out step by step."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from audio_barlow_twins.train.views.dsp.envelope import BLOCK, peak_envelope

LENGTHS = st.integers(1, 5 * BLOCK**2)
SEEDS = st.integers(0, 999)
CONSTANTS = torch.tensor([1.0, 7, 300, 10_000])
AT_ONCE = torch.full((4,), 1e-3)


def draw(length: int, seed: int) -> torch.Tensor:
    """Draw steps and spikes, float32 [4, length]."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(4, length, generator=g)
    return torch.where(torch.rand(4, length, generator=g) < 0.05, 9 * x, x)


@given(seed=SEEDS, length=LENGTHS)
def test_peaks_are_held_as_in_the_recursion(seed: int, length: int) -> None:
    x = draw(length, seed)
    made = peak_envelope(x, CONSTANTS, AT_ONCE)
    peak, keep = np.zeros(4), np.exp(-1 / CONSTANTS.double().numpy())
    for value, y in zip(x.double().numpy().T, made.numpy().T, strict=True):
        peak = np.maximum(value, keep * peak + (1 - keep) * value)
        np.testing.assert_allclose(y, peak, rtol=1e-5, atol=1e-5)


@given(seed=SEEDS, length=LENGTHS)
def test_smoothing_equals_scipys_filter(seed: int, length: int) -> None:
    # Of a rising sequence every value is a peak, so that only the smoothing is left.
    x = draw(length, seed).cummax(1).values.relu()
    made = peak_envelope(x, CONSTANTS, CONSTANTS)
    for row, wave, constant in zip(made, x.double(), CONSTANTS.tolist(), strict=True):
        keep = np.exp(-1 / constant)
        expected = signal.lfilter([1 - keep], [1, -keep], wave)
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-5)


def test_a_long_steady_value_is_reached_whatever_the_time_constant() -> None:
    made = peak_envelope(torch.full((4, 200_000), 20.0), CONSTANTS, CONSTANTS)
    torch.testing.assert_close(made[:, -1], torch.full((4,), 20.0))


@pytest.mark.parametrize("length", [1, BLOCK - 1, BLOCK, BLOCK + 1, 16_001])
def test_the_length_stays(length: int) -> None:
    x = torch.zeros(2, length)
    assert peak_envelope(x, torch.ones(2), torch.ones(2)).shape == x.shape

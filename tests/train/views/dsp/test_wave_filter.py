"""Filters: every response against scipy's recursion with the cookbook's coefficients."""

import math

import numpy as np
import pytest
import torch
from drawing import numbers
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from audio_barlow_twins.train.views.bank import Bank
from audio_barlow_twins.train.views.base import ViewContext
from audio_barlow_twins.train.views.dsp.filter import Kind, limit_bandwidth, second_order
from audio_barlow_twins.train.views.equaliser import Equaliser

RATE = 16000
KINDS: tuple[Kind, ...] = ("low-pass", "high-pass", "band-pass", "peak", "low shelf", "high shelf")


def cookbook(kind: Kind, hz: float, q: float, gain_db: float) -> np.ndarray:
    """Write the coefficients b, a as the cookbook does, for scipy [1, 6]."""
    w, amplitude = 2 * math.pi * hz / RATE, 10 ** (gain_db / 40)
    cos, alpha = math.cos(w), math.sin(w) / (2 * q)
    up, down = amplitude + 1, amplitude - 1
    root = 2 * math.sqrt(amplitude) * alpha
    plain = [1 + alpha, -2 * cos, 1 - alpha]
    b, a = {
        "low-pass": ([(1 - cos) / 2, 1 - cos, (1 - cos) / 2], plain),
        "high-pass": ([(1 + cos) / 2, -(1 + cos), (1 + cos) / 2], plain),
        "band-pass": ([alpha, 0, -alpha], plain),
        "peak": (
            [1 + alpha * amplitude, -2 * cos, 1 - alpha * amplitude],
            [1 + alpha / amplitude, -2 * cos, 1 - alpha / amplitude],
        ),
        "low shelf": (
            [
                amplitude * (up - down * cos + root),
                2 * amplitude * (down - up * cos),
                amplitude * (up - down * cos - root),
            ],
            [up + down * cos + root, -2 * (down + up * cos), up + down * cos - root],
        ),
        "high shelf": (
            [
                amplitude * (up + down * cos + root),
                -2 * amplitude * (down + up * cos),
                amplitude * (up + down * cos - root),
            ],
            [up - down * cos + root, 2 * (down - up * cos), up - down * cos - root],
        ),
    }[kind]
    return np.array([*b, *a])[None] / a[0]


@pytest.mark.parametrize("kind", KINDS)
@given(
    hz=st.floats(20, 7800), q=st.floats(0.1, 30), gain_db=st.floats(-24, 24), seed=st.integers(0, 9)
)
def test_every_response_equals_scipys(
    kind: Kind, hz: float, q: float, gain_db: float, seed: int
) -> None:
    x = torch.randn(1, 1000, generator=torch.Generator().manual_seed(seed))
    numbers = (torch.tensor([v], dtype=torch.float64) for v in (hz, q, gain_db))
    made = second_order(x, kind, *numbers, sample_rate=RATE)[0]
    expected = signal.sosfilt(cookbook(kind, hz, q, gain_db), x[0].double())
    np.testing.assert_allclose(made, expected, atol=3e-6 * max(1, abs(expected).max()))


def test_an_equaliser_is_scipys_filters_one_after_the_other() -> None:
    x, view = torch.randn(5, 3000), Equaliser(probability=1, peaks=3)
    context = ViewContext(shape=(3000,), bank=Bank(1, (3000,)), sample_rate=RATE)
    made, drawn = view(x, numbers(view, torch.arange(5)), context)
    kinds: tuple[Kind, ...] = ("low shelf", "peak", "peak", "peak", "high shelf")
    for i in range(5):
        bands = zip(*(drawn[n][i].tolist() for n in ("frequency_hz", "q", "gain_db")), strict=True)
        rows = [cookbook(kind, *band) for kind, band in zip(kinds, bands, strict=True)]
        expected = signal.sosfilt(np.concatenate(rows), x[i].double())
        np.testing.assert_allclose(made[i], expected, atol=1e-5 * abs(expected).max())


def test_every_sample_has_its_own_response() -> None:
    x = torch.randn(3, 500)
    hz, q = torch.tensor([100.0, 1000, 5000]), torch.tensor([0.7, 3, 1])
    together = second_order(x, "low-pass", hz, q, sample_rate=RATE)
    for i in range(3):
        alone = second_order(
            x[i : i + 1], "low-pass", hz[i : i + 1], q[i : i + 1], sample_rate=RATE
        )
        torch.testing.assert_close(together[i], alone[0])


def test_a_corner_above_half_the_sample_rate_is_taken_for_one_just_below() -> None:
    x, q = torch.randn(1, 400), torch.tensor([0.7])
    made, expected = (
        second_order(x, "low-pass", torch.tensor([hz]), q, sample_rate=RATE) for hz in (2e4, 7840)
    )
    torch.testing.assert_close(made, expected)


@pytest.mark.parametrize("hz", [500, 1000, 2000, 4000, 7000])
def test_the_bandwidth_is_cut_sharply_and_without_delay(hz: int) -> None:
    pulse = torch.zeros(1, 4001)
    pulse[0, 2000] = 1
    made = limit_bandwidth(pulse, torch.tensor([float(hz)]), RATE)[0].double()
    torch.testing.assert_close(made, made.flip(0))
    frequencies = np.arange(0, RATE / 2, 10)
    response = 20 * np.log10(abs(signal.freqz(made, worN=frequencies, fs=RATE)[1]) + 1e-9)
    assert abs(response[frequencies < hz - 250]).max() < 0.1
    assert response[frequencies > hz + 250].max() < -40
    assert response[frequencies == hz] == pytest.approx(-6, abs=0.1)


def test_the_whole_bandwidth_is_no_change() -> None:
    x = torch.randn(2, 1000)
    torch.testing.assert_close(limit_bandwidth(x, torch.tensor([8000.0, 22050.0]), RATE), x)

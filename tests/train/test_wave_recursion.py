"""Recursions in blocks: against scipy, and against the recursion written out step by step."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from train.wave_recursion import Recursion, decaying_maximum, smoother, toeplitz

LENGTHS = st.integers(1, 400)
SEEDS = st.integers(0, 999)


@given(seed=SEEDS, length=LENGTHS)
def test_any_stable_recursion_equals_its_steps(seed: int, length: int) -> None:
    g = np.random.default_rng(seed)
    turn = g.uniform(0, math.pi, 3)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    a = rotation.transpose(2, 0, 1) * g.uniform(0, 0.999, (3, 1, 1))
    b, c, d, x = (g.standard_normal(shape) for shape in ((3, 2), (3, 2), 3, (3, length)))
    made = Recursion(*(torch.from_numpy(part) for part in (a, b, c, d)))(torch.from_numpy(x))
    state = np.zeros((3, 2))
    for step in range(length):
        y = (c * state).sum(1) + d * x[:, step]
        np.testing.assert_allclose(made[:, step], y, atol=1e-9)
        state = (a @ state[..., None])[..., 0] + b * x[:, step, None]


@given(seed=SEEDS, length=LENGTHS)
def test_smoothing_equals_scipys_filter(seed: int, length: int) -> None:
    x = torch.randn(4, length, generator=torch.Generator().manual_seed(seed))
    constants = torch.tensor([1.0, 7, 300, 10_000])
    for made, row, constant in zip(smoother(constants)(x), x, constants.tolist(), strict=True):
        keep = math.exp(-1 / constant)
        expected = signal.lfilter([1 - keep], [1, -keep], row.double())
        np.testing.assert_allclose(made, expected, atol=1e-6)


@given(seed=SEEDS, length=LENGTHS)
def test_the_decaying_maximum_equals_its_steps(seed: int, length: int) -> None:
    x = torch.randn(4, length, generator=torch.Generator().manual_seed(seed))
    constants = torch.tensor([1.0, 7, 300, 10_000])
    made = decaying_maximum(x, constants)
    peak, keep = np.zeros(4), np.exp(-1 / constants.double().numpy())
    for step in range(length):
        peak = np.maximum(x[:, step].double().numpy(), peak * keep)
        np.testing.assert_allclose(made[:, step], peak, rtol=1e-5, atol=1e-6)


def test_a_filter_as_a_matrix_convolves() -> None:
    response, x = torch.randn(2, 9), torch.randn(2, 9)
    made = (x[:, None] @ toeplitz(response))[:, 0]
    for y, h, row in zip(made, response.numpy(), x.numpy(), strict=True):
        np.testing.assert_allclose(y, np.convolve(row, h)[:9], atol=1e-5)


@pytest.mark.parametrize("length", [63, 64, 65, 16_001])
def test_the_length_stays(length: int) -> None:
    x = torch.zeros(2, length)
    assert smoother(torch.ones(2))(x).shape == decaying_maximum(x, torch.ones(2)).shape == x.shape

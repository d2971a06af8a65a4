"""Recursions in blocks: against the recursion written out step by step."""

import functools
import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from audio_barlow_twins.train.views.dsp.recursion import Recursion, toeplitz

LENGTHS = st.integers(1, 400)
SEEDS = st.integers(0, 999)
GAINS = (2.0, 0.5, 3.0)


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
def test_one_recursion_behind_another_equals_scipys_filters_in_a_row(
    seed: int, length: int
) -> None:
    x = torch.randn(3, length, generator=torch.Generator().manual_seed(seed))
    keeps = [torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.7, 0.3, 0.99]), torch.zeros(3)]
    made = functools.reduce(
        Recursion.then, [one_pole(keep, gain) for keep, gain in zip(keeps, GAINS, strict=True)]
    )(x)
    for row, wave, own in zip(made, x.double(), torch.stack(keeps, 1).tolist(), strict=True):
        expected = wave.numpy()
        for keep, gain in zip(own, GAINS, strict=True):
            expected = signal.lfilter([gain, gain / 2], [1, -keep], expected)
        np.testing.assert_allclose(row, expected, atol=1e-6 * max(1, abs(expected).max()))


def one_pole(keep: torch.Tensor, gain: float) -> Recursion:
    """Write y' = keep y + gain (x' + x / 2) with a state."""
    a, one = keep.double()[:, None, None], torch.ones(len(keep), dtype=torch.float64)
    return Recursion(a, one[:, None], gain * (a[:, 0] + 0.5), gain * one)


def test_a_filter_as_a_matrix_convolves() -> None:
    response, x = torch.randn(2, 9), torch.randn(2, 9)
    made = (x[:, None] @ toeplitz(response))[:, 0]
    for y, h, row in zip(made, response.numpy(), x.numpy(), strict=True):
        np.testing.assert_allclose(y, np.convolve(row, h)[:9], atol=1e-5)

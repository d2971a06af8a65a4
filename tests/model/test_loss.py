"""The Barlow Twins loss: against numpy, its invariances, its precision, and across processes."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from waiting import HANG_S

from audio_barlow_twins.model.barlow_twins import cross_correlation, loss_of

WORKER = Path(__file__).with_name("loss_worker.py")
ROOT = WORKER.parents[2]


def draw(seed: int, batch: int, features: int) -> tuple[Tensor, Tensor]:
    """Draw two independent batches of embeddings, float64."""
    g = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, batch, features, generator=g, dtype=torch.float64)
    return a, b


def test_correlation_equals_numpys() -> None:
    a, b = draw(0, 20, 7)
    expected = np.corrcoef(a.T, b.T)[:7, 7:]
    np.testing.assert_allclose(cross_correlation(a, b, eps=0).numpy(), expected, atol=1e-12)


def test_loss_equals_the_sum_written_out() -> None:
    a, b = draw(1, 12, 4)
    on = off = 0.0
    for i in range(4):
        for j in range(4):
            x, y = a[:, i].numpy(), b[:, j].numpy()
            x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
            y = (y - y.mean()) / np.sqrt(y.var() + 1e-5)
            c = float((x * y).sum() / 12)
            on, off = (on + (1 - c) ** 2, off) if i == j else (on, off + c**2)
    terms = loss_of(cross_correlation(a, b), lambda_=0.01)
    assert [float(t) for t in terms] == pytest.approx([on + 0.01 * off, on, off], rel=1e-12)


def test_loss_of_equal_uncorrelated_views_is_zero() -> None:
    signs = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert float(loss_of(cross_correlation(signs, signs)).loss) == pytest.approx(0, abs=1e-9)


def test_loss_of_opposite_views_of_one_feature_is_four() -> None:
    z = torch.tensor([[1.0], [-1.0]])
    assert float(loss_of(cross_correlation(z, -z)).loss) == pytest.approx(4, rel=1e-4)


@settings(deadline=None, max_examples=30)
@given(scale=st.floats(0.5, 100), shift=st.floats(-100, 100), seed=st.integers(0, 99))
def test_correlation_ignores_gain_and_offset(scale: float, shift: float, seed: int) -> None:
    a, b = draw(seed, 32, 3)
    torch.testing.assert_close(
        cross_correlation(a, scale * b + shift, eps=0), cross_correlation(a, b, eps=0)
    )


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), batch=st.integers(2, 40), features=st.integers(1, 9))
def test_correlation_of_swapped_views_is_transposed_and_bounded(
    seed: int, batch: int, features: int
) -> None:
    a, b = draw(seed, batch, features)
    c = cross_correlation(a, b)
    torch.testing.assert_close(c, cross_correlation(b, a).T)
    assert float(c.abs().max()) <= 1


def test_gradients_equal_finite_differences() -> None:
    a, b = draw(2, 6, 3)
    a.requires_grad_()
    b.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: loss_of(cross_correlation(x, y)).loss, (a, b))


def test_a_constant_feature_gives_a_finite_loss_and_gradient() -> None:
    a, b = (z.float() for z in draw(3, 8, 3))
    a[:, 1] = 7.0
    a.requires_grad_()
    loss = loss_of(cross_correlation(a, b)).loss
    loss.backward()
    assert a.grad is not None
    assert loss.isfinite()
    assert a.grad.isfinite().all()


def test_autocast_changes_nothing() -> None:
    a, b = (z.float() for z in draw(4, 16, 5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss_of(cross_correlation(a, b)).loss
    assert inside.dtype == torch.float32
    assert torch.equal(inside, loss_of(cross_correlation(a, b)).loss)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_embeddings_are_compared_in_float32(dtype: torch.dtype) -> None:
    a, b = (z.to(dtype) for z in draw(5, 16, 5))
    assert torch.equal(
        loss_of(cross_correlation(a, b)).loss, loss_of(cross_correlation(a.float(), b.float())).loss
    )


def test_embeddings_of_unequal_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[4, 3\] and \[5, 3\]"):
        loss_of(cross_correlation(torch.zeros(4, 3), torch.zeros(5, 3)))


def test_two_processes_give_the_loss_and_gradients_of_one(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen([sys.executable, WORKER, str(rank), tmp_path], env=environment)
        for rank in range(2)
    ]
    try:
        assert [worker.wait(timeout=HANG_S) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    worker_module = runpy.run_path(str(WORKER))
    net, views = worker_module["make_net"](), worker_module["make_views"](16)
    alone = worker_module["loss_and_gradients"](net, *views)
    for rank in range(2):
        even, uneven = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(even, alone, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(uneven, alone, atol=1e-9, rtol=1e-9)

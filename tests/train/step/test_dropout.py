"""Dropout by rows: how much it drops, what it keeps, and what each process sees of it."""

import pytest
import torch
from scipy import stats

from audio_barlow_twins.train.step.synced import RowDropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_units_are_dropped_with_the_given_probability_and_the_rest_scaled(p: float) -> None:
    torch.manual_seed(0)
    y = RowDropout(p, range(64), 64)(torch.ones(64, 24, 200))
    n_dropped = int((y == 0).sum())
    assert stats.binomtest(n_dropped, y.numel(), p).pvalue > 1e-3
    assert y[y != 0].unique().tolist() == pytest.approx([1 / (1 - p)], rel=1e-4)


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(1)
    dropped = RowDropout(0.3, range(50), 50)(torch.ones(50, 4000)).flatten() == 0
    for lag in (1, 2, 3, 4, 8):
        both = int((dropped[:-lag] & dropped[lag:])[:: lag + 1].sum())
        n = len(dropped[: -lag : lag + 1])
        assert stats.binomtest(both, n, 0.09).pvalue > 1e-4


def test_the_rows_of_a_process_are_those_of_the_whole_batch() -> None:
    def drop(rows: range) -> torch.Tensor:
        torch.manual_seed(2)
        return RowDropout(0.3, rows, 7)(torch.ones(len(rows), 5, 3))

    whole = drop(range(7))
    for rows in (range(0, 2), range(2, 4), range(4, 7)):
        assert torch.equal(drop(rows), whole[rows.start : rows.stop])


def test_nothing_is_dropped_in_evaluation_or_with_probability_zero() -> None:
    x = torch.randn(4, 9)
    assert torch.equal(RowDropout(0.3, range(4), 4).eval()(x), x)
    assert torch.equal(RowDropout(0.0, range(4), 4)(x), x)


def test_the_gradient_passes_where_units_are_kept() -> None:
    torch.manual_seed(3)
    x = torch.ones(6, 50, requires_grad=True)
    y = RowDropout(0.5, range(6), 6)(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())

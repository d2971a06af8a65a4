"""The learning-rate factor at points computed by hand."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_barlow_twins.train.step.schedule import warmup_cosine


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 0.25),
        (1, 0.5),
        (3, 1.0),
        (4, 1.0),
        (5, (2 + math.sqrt(2)) / 4),
        (6, 0.5),
        (7, (2 - math.sqrt(2)) / 4),
        (8, 0.0),
        (9, 0.0),
    ],
)
def test_factor_of_four_warm_up_steps_in_eight(step: int, factor: float) -> None:
    assert warmup_cosine(step, total_steps=8, warmup_steps=4) == pytest.approx(factor, abs=1e-12)


def test_a_run_without_warm_up_starts_at_the_full_rate() -> None:
    assert warmup_cosine(0, total_steps=10, warmup_steps=0) == 1


def test_a_run_may_be_all_warm_up() -> None:
    assert [warmup_cosine(s, 2, 2) for s in range(3)] == [0.5, 1, 0]


@settings(deadline=None)
@given(total=st.integers(1, 500), share=st.floats(0, 1))
def test_factor_rises_then_falls_and_is_positive_in_every_step(total: int, share: float) -> None:
    warmup = int(share * total)
    factors = [warmup_cosine(step, total, warmup) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[:warmup] == sorted(factors[:warmup])
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)


@pytest.mark.parametrize("warmup", [-1, 11])
def test_a_warm_up_longer_than_the_run_is_refused(warmup: int) -> None:
    with pytest.raises(ValueError, match="warmup_steps"):
        warmup_cosine(0, 10, warmup)

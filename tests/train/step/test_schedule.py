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


@given(total=st.integers(1, 500), share=st.floats(0, 1))
def test_without_a_final_rate_it_is_half_a_cosine_bit_for_bit(total: int, share: float) -> None:
    warmup = int(share * total)
    for step in range(warmup, total):
        half = 0.5 * (1 + math.cos(math.pi * ((step - warmup) / (total - warmup))))
        assert warmup_cosine(step, total, warmup) == warmup_cosine(step, total, warmup, 0.0) == half


def test_a_final_rate_is_that_of_a_cosine_stretched_beyond_the_run() -> None:
    final = 0.5 * (1 + math.cos(math.pi / 1.25))
    for step in range(101):
        stretched = 0.5 * (1 + math.cos(math.pi * step / 125))
        assert warmup_cosine(step, 100, 0, final) == pytest.approx(stretched, abs=1e-12)


@pytest.mark.parametrize("final", [0.0, 0.098, 0.5, 1.0])
def test_the_rate_ends_at_the_final_one(final: float) -> None:
    factors = [warmup_cosine(step, 1000, 10, final) for step in range(1001)]
    assert factors[10] == 1
    assert factors[999] == pytest.approx(final, abs=0.003)
    assert factors[1000] == warmup_cosine(2000, 1000, 10, final) == final


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

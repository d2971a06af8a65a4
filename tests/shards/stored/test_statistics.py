"""Merged statistics are those of all values together."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from making import arrays_of, noise_set, small_form

from audio_barlow_twins.shards.stored.shardset import open_shards
from audio_barlow_twins.shards.stored.statistics import Statistics

values = hnp.arrays(
    np.float16, st.integers(0, 60), elements=st.floats(-100, 100, width=16, allow_subnormal=False)
)


@given(parts=st.lists(values, max_size=6))
def test_merging_equals_numpy_on_everything_at_once(parts: list[np.ndarray]) -> None:
    merged = Statistics.merged(Statistics.of(part) for part in parts)
    everything = np.concatenate([np.empty(0), *parts]).astype(np.float64)
    assert merged.count == len(everything)
    if len(everything):
        assert merged.mean == pytest.approx(everything.mean(), rel=1e-9, abs=1e-9)
        assert merged.std == pytest.approx(everything.std(), rel=1e-6, abs=1e-6)


@given(whole=values, cuts=st.lists(st.integers(0, 60), max_size=5))
def test_the_split_does_not_matter(whole: np.ndarray, cuts: list[int]) -> None:
    parts = np.split(whole, sorted(min(cut, len(whole)) for cut in cuts))
    merged = Statistics.merged(map(Statistics.of, parts))
    direct = Statistics.of(whole)
    assert merged.count == direct.count
    assert merged.mean == pytest.approx(direct.mean, rel=1e-9, abs=1e-9)
    assert merged.m2 == pytest.approx(direct.m2, rel=1e-9, abs=1e-6)


def test_a_large_offset_does_not_eat_the_deviation() -> None:
    values = 1e9 + np.array([0.0, 1.0, 2.0, 3.0])
    merged = Statistics.of(values[:1]).merge(Statistics.of(values[1:]))
    assert merged.std == pytest.approx(np.sqrt(1.25), rel=1e-6)


def test_nothing_has_no_deviation() -> None:
    assert Statistics().merge(Statistics()) == Statistics(0, 0.0, 0.0)
    assert Statistics().std == 0.0


@pytest.mark.parametrize("kind", ["wave", "logmel"])
def test_a_sets_statistics_are_those_of_all_its_values(kind: str, tmp_path: Path) -> None:
    folder = noise_set(tmp_path, small_form(kind), [[5, 300], [70], [1, 2, 3]])
    scale = 32768 if kind == "wave" else 1
    everything = np.concatenate([a.astype(np.float64).ravel() for a in arrays_of(folder)]) / scale
    statistics = open_shards(folder).statistics
    assert statistics.count == everything.size
    assert statistics.mean == pytest.approx(everything.mean())
    assert statistics.std == pytest.approx(everything.std())

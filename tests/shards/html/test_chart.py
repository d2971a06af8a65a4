"""Numbers that become places: lines, columns, ticks, spectrograms."""

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from audio_barlow_twins.shards.html.chart import (
    Plot,
    histogram,
    line_chart,
    number,
    share,
    spectrogram,
)


def columns(plot: Plot) -> tuple[np.ndarray, list[int]]:
    """Return place and size of each column of a histogram, [N, 4], and the counts they tell."""
    counts = [int(text.split(": ")[1].replace(",", "")) for *_, text in plot.boxes]
    return np.array([each[:4] for each in plot.boxes]), counts


class TestCharts:
    """Lines and columns."""

    @given(hnp.arrays(float, st.integers(1, 40), elements=st.floats(-300, 300)), st.booleans())
    def test_columns_of_a_histogram_count_every_value_in_its_round_bin(
        self, values: np.ndarray, start: bool
    ) -> None:
        values = np.round(values, 3) + 0.0005  # off the edges, where rounding decides
        values = np.abs(values) if start else values
        low = 0.0 if start else values.min()
        span = max(values.max() - low, 1)
        round_numbers = (by * 10.0**power for power in range(-2, 3) for by in (1, 2, 5))
        step = next(step for step in round_numbers if step >= 0.999 * span / 40)
        numbers = np.floor(values / step).astype(int) - int(np.floor(low / step))
        _, counts = columns(histogram(values, "x", "", 0.0 if start else None))
        assert counts == np.bincount(numbers).tolist()
        assert len(counts) <= 42

    @given(st.lists(st.integers(0, 10**4), min_size=1, max_size=30).filter(any))
    def test_columns_stand_in_their_bins_and_fit(self, given_counts: list[int]) -> None:
        values = np.repeat(np.arange(len(given_counts)) + 0.5, given_counts)
        boxes, counts = columns(histogram(values, "x", "", 0.0))
        x, y, width, height = boxes.T
        np.testing.assert_allclose(x, 1000 * np.arange(len(counts)) / len(counts), atol=0.01)
        np.testing.assert_allclose(y + height, 1000, atol=0.02)
        np.testing.assert_allclose(width, 920 / len(counts), atol=0.01)
        exact = 1000 * np.array(counts) / (1.05 * max(counts))
        least = np.where(counts, 8, 0)  # one clip beside a million stays visible
        np.testing.assert_allclose(height, np.maximum(exact, least), atol=0.01)

    @pytest.mark.parametrize("value", [-120.0, 0.0, 10.0, 0.3])
    def test_clips_that_are_all_alike_are_one_column(self, value: float) -> None:
        _, counts = columns(histogram(np.full(5, value), "x", ""))
        assert sum(counts) == max(counts) == 5

    def test_a_line_begins_and_ends_where_its_numbers_say(self) -> None:
        chart = line_chart(np.array([10, 20, 30]), np.array([0, 100, 50]), "x", "y", "")
        assert chart.line == "M0.0,1000.0 L500.0,47.6 L1000.0,523.8"

    @given(
        st.floats(-1e6, 1e6),
        st.floats(0.001, 1e6),
        st.lists(st.floats(0, 1e9), min_size=2, max_size=9),
    )
    def test_ticks_are_few_and_lie_on_the_axes(self, low: float, step: float, y: list) -> None:
        chart = line_chart(low + step * np.arange(len(y)), np.array(y), "x", "y", "")
        at = [at for at, _ in (*chart.x_ticks, *chart.y_ticks)]
        assert 2 <= len(at) <= 16
        assert all(-0.01 <= a <= 100.01 for a in at)

    def test_ticks_lie_where_their_numbers_say(self) -> None:
        chart = line_chart(np.array([0.0, 10.0]), np.array([1.0, 2.0]), "x", "y", "")
        assert list(chart.x_ticks)[:3] == [(0, "0"), (20, "2"), (40, "4")]
        for at, text in chart.y_ticks:
            assert at == pytest.approx(100 * float(text) / 2.1, abs=0.01)

    def test_one_point_and_nothing_but_zeros_are_drawn(self) -> None:
        for chart in (
            line_chart(np.array([5.0]), np.zeros(1), "x", "y", ""),
            histogram(np.zeros(3), "x", ""),
        ):
            assert "nan" not in repr(chart).lower()

    def test_numbers_are_written_for_people(self) -> None:
        assert [number(n) for n in (0, 1234567, 12345.6, 0.123456, 2.0)] == [
            "0", "1,234,567", "12,346", "0.1235", "2",
        ]  # fmt: skip

    def test_places_off_an_axis_go_to_its_end(self) -> None:
        values = (-1, 0, 1e-9, 1, 2, 3, float("nan"))
        assert [share(value, 2) for value in values] == [
            "0.00%", "0.00%", "0.30%", "50.00%", "100.00%", "100.00%", "0%",
        ]  # fmt: skip


def picture_of(log_mel: np.ndarray) -> Image.Image:
    """Decode the picture of a log-mel with Pillow."""
    data = spectrogram(log_mel, 100, "alt").picture.removeprefix("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(data)))


class TestSpectrogram:
    """A log-mel as a picture."""

    def test_time_runs_to_the_right_and_low_bins_lie_at_the_bottom(self) -> None:
        log_mel = np.full((7, 4), -10, np.float16)
        log_mel[5, 0], log_mel[2, 3] = 5, 1
        lightness = np.asarray(picture_of(log_mel).convert("L"))
        assert lightness.shape == (4, 7)
        assert np.unravel_index(lightness.argmax(), lightness.shape) == (3, 5)
        assert lightness[0, 2] > lightness[1, 2]

    def test_eighty_decibels_below_the_loudest_is_black(self) -> None:
        picture = picture_of(np.log(np.array([[1e3, 1e-4, 1e-5, 1e-6]], np.float32)))
        np.testing.assert_array_equal(np.asarray(picture)[::-1, 0] == 0, [False, False, True, True])

    def test_silence_and_broken_numbers_are_drawn(self) -> None:
        for value in (-15.9, np.nan, np.inf, -np.inf):
            assert picture_of(np.full((3, 2), value, np.float16)).size == (3, 2)

    def test_its_axes_are_seconds_and_mel_bins(self) -> None:
        plot = spectrogram(np.zeros((200, 64)), 100, "alt")
        assert plot.x_ticks[0] == (0, "0")
        assert plot.x_ticks[-1] == (100, "2")
        assert list(plot.y_ticks) == [(0, "0"), (100, "63")]

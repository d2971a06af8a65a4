"""Pages that are one file: whatever the text, it is shown and never becomes markup."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from audio_barlow_twins.shards.html.page import (
    Html,
    bars,
    element,
    escape,
    histogram,
    join,
    line_chart,
    number,
    page,
    player,
    spectrogram,
    table,
    tiles,
)
from audio_barlow_twins.shards.html.picture import colours, png

HOSTILE = '</td><script>alert(1)</script><img src=x onerror="alert(1)">&amp;"\'\x00\ud800'
VOID = {"meta", "link", "img", "br"}


class Reader(HTMLParser):
    """The standard library's parser as a reader: text, tags and whether all of them are closed."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.text, self.open, self.tags = "", list[str](), list[tuple[str, dict]]()
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def everything(text: str) -> str:
    """Build a page with a text in every place that takes one."""
    silence = np.zeros(16, np.int16)
    log_mel = np.zeros((4, 2), np.float16)
    parts = [
        element("p", text, class_=text),
        table([(text, 1, 2.5)], (text, text, text), text),
        tiles([(text, text)]),
        bars([(text, 3)], total=4, unit=text),
        line_chart([0, 1], [2, 3], text, text, text),
        histogram([0, 1], [2], text, text, text),
        spectrogram(log_mel, 0.04, text),
        player(silence, 16000, text),
    ]
    return page(text, [(text, join(*parts))], subtitle=text)


def pictures_of(markup: str) -> list[Image.Image]:
    """Decode the pictures of a page with Pillow."""
    found = re.findall('src="data:image/png;base64,([^"]+)"', markup)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


class TestText:
    """What becomes of text."""

    @given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40))
    def test_it_is_read_back_as_it_was(self, text: str) -> None:
        shown = text.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")
        assert Reader(escape(text)).text == shown

    def test_control_characters_and_half_surrogates_are_replaced(self) -> None:
        assert escape("a\x00b\x1bc\x85d\ud800e\tf\n") == "a�b�c�d�e\tf\n"

    def test_it_is_escaped_once(self) -> None:
        assert element("p", element("b", "a & b")) == "<p><b>a &amp; b</b></p>"

    def test_markup_and_text_put_together_by_hand_become_text(self) -> None:
        assert escape(Html("<b>") + "<i>") == "&lt;b&gt;&lt;i&gt;"

    def test_hostile_text_adds_no_element_and_no_attribute_anywhere(self) -> None:
        hostile, harmless = Reader(everything(HOSTILE)), Reader(everything("x" * len(HOSTILE)))
        shape = [[(tag, sorted(given)) for tag, given in each.tags] for each in (hostile, harmless)]
        assert shape[0] == shape[1]


class TestPage:
    """The page as a whole."""

    def test_all_its_elements_are_closed(self) -> None:
        assert Reader(everything("text")).open == []

    def test_it_names_nothing_outside_of_itself(self) -> None:
        for tag, has in Reader(everything("text")).tags:
            assert tag not in {"script", "iframe", "object", "embed", "base"}
            for name in ("src", "href"):
                assert has.get(name, "data:").startswith("data:")

    def test_its_policy_forbids_scripts_and_the_network(self) -> None:
        policies = [g["content"] for tag, g in Reader(page("a", [])).tags if "http-equiv" in g]
        assert policies == [
            "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
        ]

    def test_pictures_charts_and_players_say_what_they_are(self) -> None:
        for tag, has in Reader(everything("what it is")).tags:
            if tag in {"img", "svg", "audio"}:
                assert "what it is" in has.values(), tag


class TestCharts:
    """Numbers that become lengths."""

    def test_bars_are_as_long_as_their_values_and_say_them(self) -> None:
        chart = bars([("ok", 3000), ("geo", 1500), ("none", 0)], total=4500)
        assert re.findall(r"width:([\d.]+)%", chart) == ["100.00", "50.00", "0.00"]
        assert Reader(chart).text == "ok3,000 (66.7%)geo1,500 (33.3%)none0 (0.0%)"

    def test_no_bars_are_no_error(self) -> None:
        assert Reader(bars([])).text == ""

    @given(
        st.lists(st.integers(0, 10**7), min_size=1, max_size=50),
        st.floats(-100, 100),
        st.floats(0.01, 100),
    )
    def test_columns_of_a_histogram_stand_in_their_bins_and_fit(
        self, counts: list[int], low: float, width: float
    ) -> None:
        edges = [low + width * i for i in range(len(counts) + 1)]
        boxes = [g for tag, g in Reader(histogram(edges, counts, "x")).tags if tag == "rect"]
        for i, (box, count) in enumerate(zip(boxes, counts, strict=True)):
            assert float(box["x"]) == pytest.approx(1000 * i / len(counts), abs=0.01)
            assert float(box["y"]) + float(box["height"]) == pytest.approx(1000, abs=0.02)
            assert (float(box["height"]) > 0) == (count > 0)
            exact = 1000 * count / (1.05 * max(*counts, 1))
            assert float(box["height"]) == pytest.approx(max(exact, 8 if count else 0), abs=0.01)

    def test_a_line_begins_and_ends_where_its_numbers_say(self) -> None:
        chart = line_chart([10, 20, 30], [0, 100, 50], "x", "y")
        line = next(g["d"] for tag, g in Reader(chart).tags if g.get("class") == "line")
        assert line == "M0.0,1000.0 L500.0,47.6 L1000.0,523.8"

    @given(
        st.floats(-1e6, 1e6),
        st.floats(0.001, 1e6),
        st.lists(st.floats(0, 1e9), min_size=2, max_size=9),
    )
    def test_ticks_are_few_and_lie_on_the_axes(self, low: float, step: float, y: list) -> None:
        chart = line_chart([low + step * i for i in range(len(y))], y, "x", "y")
        at = [float(a) for a in re.findall(r'style="(?:left|bottom):(-?[\d.]+)%"', chart)]
        assert 2 <= len(at) <= 16
        assert all(-0.01 <= a <= 100.01 for a in at)

    def test_one_point_and_nothing_but_zeros_are_drawn(self) -> None:
        assert "NaN" not in line_chart([5], [0], "x", "y") + histogram([0, 1], [0], "x")

    def test_numbers_are_written_for_people(self) -> None:
        assert [number(n) for n in (0, 1234567, 12345.6, 0.123456, 2.0)] == [
            "0", "1,234,567", "12,346", "0.1235", "2",
        ]  # fmt: skip


class TestPng:
    """Files that Pillow reads."""

    @given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
    def test_grey_is_kept(self, image: np.ndarray) -> None:
        read = Image.open(io.BytesIO(png(image)))
        assert read.mode == "L"
        np.testing.assert_array_equal(np.asarray(read), image)

    @given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
    def test_colour_is_kept(self, image: np.ndarray) -> None:
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(image)))), image)

    def test_numbers_of_colours_become_those_colours(self) -> None:
        image, palette = np.array([[0, 1, 2]], np.uint8), colours(3)
        read = Image.open(io.BytesIO(png(image, palette))).convert("RGB")
        np.testing.assert_array_equal(np.asarray(read)[0], palette)

    @pytest.mark.parametrize("shape", [(3,), (0, 4), (2, 2, 3, 1)])
    def test_what_is_no_picture_is_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="a picture is uint8"):
            png(np.zeros(shape, np.uint8))

    def test_colours_lighten_evenly(self) -> None:
        linear = (colours(64) / 255) ** 2.2
        luminance = linear @ [0.2126, 0.7152, 0.0722]
        lightness = 116 * np.cbrt(np.maximum(luminance, 0.008856)) - 16  # CIE 1976
        steps = np.diff(lightness)
        assert steps.min() >= 0
        assert steps.max() < 3 * 100 / 63


class TestSpectrogram:
    """A log-mel as a picture."""

    def test_time_runs_to_the_right_and_low_bins_lie_at_the_bottom(self) -> None:
        log_mel = np.full((7, 4), -10, np.float16)
        log_mel[5, 0], log_mel[2, 3] = 5, 1
        (picture,) = pictures_of(spectrogram(log_mel, 0.07, "alt"))
        lightness = np.asarray(picture.convert("L"))
        assert lightness.shape == (4, 7)
        assert np.unravel_index(lightness.argmax(), lightness.shape) == (3, 5)
        assert lightness[0, 2] > lightness[1, 2]

    def test_eighty_decibels_below_the_loudest_is_black(self) -> None:
        log_mel = np.log(np.array([[1e3, 1e-4, 1e-5, 1e-6]], np.float32))
        (picture,) = pictures_of(spectrogram(log_mel, 0.01, "alt"))
        np.testing.assert_array_equal(np.asarray(picture)[::-1, 0] == 0, [False, False, True, True])

    def test_silence_and_broken_numbers_are_drawn(self) -> None:
        for value in (-15.9, np.nan, np.inf, -np.inf):
            (picture,) = pictures_of(spectrogram(np.full((3, 2), value, np.float16), 0.03, "alt"))
            assert picture.size == (3, 2)


class TestPlayer:
    """A sound inside the page."""

    @given(hnp.arrays(np.int16, st.integers(1, 50)), st.sampled_from([8000, 16000, 44100]))
    def test_it_plays_exactly_the_samples(self, samples: np.ndarray, sample_rate: int) -> None:
        (tag,) = [g for tag, g in Reader(player(samples, sample_rate)).tags if tag == "audio"]
        data = base64.b64decode(tag["src"].removeprefix("data:audio/wav;base64,"))
        read, rate = soundfile.read(io.BytesIO(data), dtype="int16")
        assert rate == sample_rate
        np.testing.assert_array_equal(read, samples)

    def test_samples_of_another_type_are_refused(self) -> None:
        with pytest.raises(ValueError, match="a sound is int16"):
            player(np.zeros(4, np.float32), 16000)

"""Pages that are one file: whatever the text, it is shown and never becomes markup."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from audio_barlow_twins.shards.html.card import Card, sound_page
from audio_barlow_twins.shards.html.chart import Bar, histogram, line_chart, number
from audio_barlow_twins.shards.html.page import render

HOSTILE = '</td><script>alert(1)</script><img src=x onerror="alert(1)">&amp;"\'\x00\ud800'
SHOWN = HOSTILE[:-2] + "\ufffd\ufffd"
VOID = {"meta", "link", "img", "br"}
EVERYTHING = """
{% extends "base.html" %}
{% from "macros.html" import tiles, table, bar_chart, plot, sound_card %}
{% block sections %}
<section><h2>{{ text }}</h2><p class="{{ text }}">{{ text }}</p>
{{ table([(text, 1, 2.5, text)], (text, text, text, text), text, code=true) }}
{{ tiles([(text, text)]) }}
{{ bar_chart(text, bars, 2, 1) }}
{{ plot(line) }}{{ plot(boxes) }}{{ sound_card(card) }}
</section>
{% endblock %}
"""


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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for templates."""
    return tmp_path_factory.mktemp("templates")


def everything(text: str, folder: Path) -> str:
    """Build a page with a text in every place that takes one."""
    one = np.ones(1)
    card = Card(
        title=text, lines=[text, text], notes=[text], samples=np.zeros(16, np.int16),
        log_mel=np.zeros((4, 2), np.float16),
    )  # fmt: skip
    (folder / "everything.html").write_text(EVERYTHING)
    return render(
        folder / "everything.html", title=text, subtitle=text, text=text, card=card,
        bars=[Bar(name=text, value=1, std=0.5, text=text)],
        line=line_chart(one, one, text, text, text), boxes=histogram(one, text, text),
    )  # fmt: skip


def drawn(content: str, folder: Path) -> Reader:
    """Read what a template without a page around it becomes."""
    (folder / "piece.html").write_text('{% import "macros.html" as make %}' + content)
    return Reader(render(folder / "piece.html"))


class TestText:
    """What becomes of text."""

    @given(text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40))
    def test_it_is_read_back_as_it_was(self, folder: Path, text: str) -> None:
        (folder / "text.html").write_text("{{ text }}")
        shown = text.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")
        assert Reader(render(folder / "text.html", text=text)).text == shown

    def test_control_characters_and_half_surrogates_are_replaced(self, folder: Path) -> None:
        (folder / "text.html").write_text("{{ text }}")
        text = "a\x00b\x1bc\x85d\ud800e\tf\ng"
        assert render(folder / "text.html", text=text) == "a�b�c�d�e\tf\ng"

    def test_it_is_escaped_once_however_deep_it_lies(self, folder: Path) -> None:
        tags = Reader(everything(HOSTILE, folder)).tags
        alts = [has["alt"] for tag, has in tags if tag == "img"]
        assert alts == [f"Log-mel spectrogram of {SHOWN}, {SHOWN}"]

    def test_hostile_text_adds_no_element_and_no_attribute_anywhere(self, folder: Path) -> None:
        hostile = Reader(everything(HOSTILE, folder))
        harmless = Reader(everything("x" * len(HOSTILE), folder))
        shape = [[(tag, sorted(given)) for tag, given in each.tags] for each in (hostile, harmless)]
        assert shape[0] == shape[1]

    def test_a_name_that_a_template_lacks_is_an_error(self, folder: Path) -> None:
        (folder / "lacking.html").write_text("{{ nothing }}")
        with pytest.raises(UndefinedError, match="'nothing' is undefined"):
            render(folder / "lacking.html")


class TestPage:
    """The page as a whole."""

    def test_all_its_elements_are_closed(self, folder: Path) -> None:
        assert Reader(everything("text", folder)).open == []

    def test_it_names_nothing_outside_of_itself(self, folder: Path) -> None:
        for tag, has in Reader(everything("text", folder)).tags:
            assert tag not in {"script", "iframe", "object", "embed", "base"}
            for name in ("src", "href"):
                assert has.get(name, "data:").startswith("data:")

    def test_its_policy_forbids_scripts_and_the_network(self) -> None:
        tags = Reader(sound_page("a", "b", [])).tags
        assert [has["content"] for _, has in tags if "http-equiv" in has] == [
            "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
        ]

    def test_pictures_charts_and_players_say_what_they_are(self, folder: Path) -> None:
        tags = [each for each in Reader(everything("what it is", folder)).tags
                if each[0] in {"img", "svg", "audio"}]  # fmt: skip
        assert [tag for tag, _ in tags] == ["svg", "svg", "svg", "audio", "img"]
        for tag, has in tags[1:]:
            assert "what it is" in has.get("aria-label", has.get("alt")), tag


class TestMacros:
    """Pieces of pages."""

    def test_numbers_stand_to_the_right_and_code_in_the_last_column(self, folder: Path) -> None:
        table = drawn('{{ make.table([("a", 1234.5, "b")], ("x", "y", "z"), code=true) }}', folder)
        cells = [(tag, has.get("class")) for tag, has in table.tags if tag in {"th", "td", "code"}]
        assert cells[:3] == [("th", None), ("th", "number"), ("th", None)]
        assert cells[3:] == [("td", "short"), ("td", "number"), ("td", "short"), ("code", None)]
        assert table.text.split() == ["x", "y", "z", "a", "1,234", "b"]

    def test_an_empty_table_and_no_bars_are_no_error(self, folder: Path) -> None:
        assert drawn('{{ make.table([], ("a",)) }}', folder).text.split() == ["a"]
        assert drawn('{{ make.bar_chart("none", []) }}', folder).text.split() == ["none"]

    def test_long_text_is_cut_but_code_is_whole(self, folder: Path) -> None:
        table = drawn('{{ make.table([("a" * 999, "b" * 999)], code=true) }}', folder)
        assert table.text.split() == ["a" * 299 + "…", "b" * 999]

    def test_bars_are_as_long_as_their_values_and_say_them(self, folder: Path) -> None:
        values = [("ok", 3000, 0), ("geo", 1500, 300), ("rare", 1, 0), ("none", 0, 0)]
        bars = [Bar(name=n, value=v, std=s, text=number(v)) for n, v, s in values]
        (folder / "bars.html").write_text(
            '{% from "macros.html" import bar_chart %}{{ bar_chart("How many", bars, mark=600) }}'
        )
        chart = Reader(render(folder / "bars.html", bars=bars))
        rects = [has for tag, has in chart.tags if tag == "rect"]
        assert [has["width"] for has in rects if has["class"] == "ours"] == [
            "100.00%", "50.00%", "0.30%", "0.00%",
        ]  # fmt: skip
        lines = {has["class"]: (has["x1"], has["x2"]) for tag, has in chart.tags if tag == "line"}
        assert lines == {"spread": ("40.00%", "60.00%"), "chance": ("20.00%", "20.00%")}
        assert chart.text.split() == [
            "How", "many", "ok:", "3,000;", "geo:", "1,500;", "rare:", "1;", "none:", "0",
            "ok", "3,000", "geo", "1,500", "rare", "1", "none", "0",
        ]  # fmt: skip

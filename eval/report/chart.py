"""Horizontal bars as an SVG whose writing keeps its size on every screen."""

from collections.abc import Sequence
from dataclasses import dataclass

from audio_barlow_twins.shards.html.page import Html, element, join

ROW = 34
"""Height of one bar with its writing above it, px."""
LONGEST = 36
"""Characters of a name; a longer one would run into its value on a phone."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One value with its name."""

    name: str
    value: float
    std: float | None = None
    text: str
    """The value as it is written."""
    kind: str
    """How it is filled: "ours", "random", "run" or "published"."""


def bar_chart(title: str, bars: Sequence[Bar], mark: float | None = None, full: float = 1) -> Html:
    """Draw bars from 0 to `full`, each with a tick at `mark`.

    Places are shares of the width and writing is not scaled, so the drawing fits any width.
    """
    height = ROW * len(bars)
    said = "; ".join(f"{bar.name}: {bar.text}" for bar in bars)
    parts = [element("title", title), element("desc", said)]
    for number, bar in enumerate(bars):
        parts.append(_bar(bar, ROW * number, full))
        if mark is not None:
            x, ends = _share(mark, full), (str(ROW * number + 16), str(ROW * number + 29))
            parts.append(element("line", class_="chance", x1=x, x2=x, y1=ends[0], y2=ends[1]))
    return element("svg", *parts, class_="bar-chart", role="img", width="100%", height=str(height))


def _bar(bar: Bar, top: int, full: float) -> Html:
    name = bar.name if len(bar.name) <= LONGEST else bar.name[: LONGEST - 1] + "…"
    at = {"y": str(top + 18), "height": "9", "rx": "2"}
    parts = [
        element("text", name, x="0", y=str(top + 13)),
        element("text", bar.text, x="100%", y=str(top + 13), text_anchor="end"),
        element("rect", width="100%", class_="track", **at),
        element("rect", width=_share(bar.value, full), class_=bar.kind, **at),
    ]
    if bar.std:
        ends = (_share(bar.value - bar.std, full), _share(bar.value + bar.std, full))
        y = str(top + 22.5)
        parts.append(element("line", x1=ends[0], x2=ends[1], y1=y, y2=y, class_="spread"))
    return join(*parts)


def _share(value: float, full: float) -> str:
    """Write a place on the axis; what is not on it, or no number, goes to its end."""
    return f"{100 * min(max(value / full, 0), 1):.2f}%" if value == value else "0%"

"""Pages of HTML that are one file: charts, pictures and sounds inside, nothing from the network."""

import base64
import html
import io
import math
import re
import sys
import wave as wave_file
from collections.abc import Iterable, Sequence

import numpy as np

from .picture import colours, png
from .style import STYLE

_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_LEVELS = 64
SHORT = 24
"""Longer cells of a table may be broken into lines."""


class Html(str):
    """Markup that goes into a page as it is; a plain `str` is text and gets escaped."""

    __slots__ = ()


def escape(text: str | Html) -> Html:
    """Turn text into markup that shows it; control characters and half surrogates become U+FFFD."""
    return text if isinstance(text, Html) else Html(html.escape(_UNFIT.sub("\ufffd", text)))


def element(tag: str, *content: str | Html, **attributes: str) -> Html:
    """Build one element; `class_` stands for class and `aria_label` for aria-label."""
    names = {name: name.rstrip("_").replace("_", "-") for name in attributes}
    given = {names[name]: text for name, text in attributes.items() if text}
    written = "".join(f' {name}="{escape(text)}"' for name, text in given.items())
    return Html(f"<{tag}{written}>{join(*content)}</{tag}>")


def join(*parts: str | Html) -> Html:
    """Put pieces one after the other."""
    return Html("".join(escape(part) for part in parts))


def page(title: str, sections: Iterable[tuple[str, Html]], subtitle: str = "") -> str:
    """Build a whole page.

    Args:
        title: heading of the page, and of its window.
        sections: heading and content of each part; a heading may be ''.
        subtitle: a line below the title.

    Returns:
        HTML that runs no script and loads nothing: its own policy forbids both.
    """
    parts = [
        element("section", element("h2", heading) if heading else Html(""), content)
        for heading, content in sections
    ]
    head = join(
        Html(f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy"'
             f' content="{_POLICY}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'),
        element("title", title),
        Html(f"<style>{STYLE}</style>"),
    )  # fmt: skip
    top = element("header", element("h1", title), element("p", subtitle, class_="quiet"))
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>{top}' + "\n".join(
        [*map(str, parts), "</body></html>\n"]
    )


def number(value: float) -> str:
    """Write a number for people: thousands apart, four digits of a fraction."""
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def tiles(pairs: Iterable[tuple[str, str]]) -> Html:
    """Show the few figures that matter, each a name and a value, large and side by side."""
    items = [element("div", element("dt", name), element("dd", value)) for name, value in pairs]
    return element("dl", *items, class_="tiles")


def table(
    rows: Iterable[Sequence[str | float]], head: Sequence[str] = (), caption: str = ""
) -> Html:
    """Lay out rows; numbers are written for people and aligned to the right."""
    rows = list(rows)
    first: Sequence[str | float] = rows[0] if rows else [""] * len(head)
    names = [
        element("th", name, scope="col", class_="number" if not isinstance(cell, str) else "")
        for name, cell in zip(head, first, strict=bool(head))
    ]
    lines = [element("tr", *(_cell(cell) for cell in row)) for row in rows]
    body = join(
        element("caption", caption) if caption else Html(""),
        element("thead", element("tr", *names)) if head else Html(""),
        element("tbody", *lines),
    )
    return element("div", element("table", body), class_="wide")


def _cell(content: str | float, tag: str = "td", **attributes: str) -> Html:
    """Build a cell; a short text stays on one line, a longer one may be broken anywhere."""
    if not isinstance(content, str):
        return element(tag, number(content), class_="number", **attributes)
    shown = re.sub("<[^>]*>", "", content) if isinstance(content, Html) else content
    kind = "short" if len(shown) <= SHORT else "text"
    return element(tag, content, class_=kind, **attributes)


def bars(pairs: Iterable[tuple[str, float]], total: float | None = None, unit: str = "") -> Html:
    """Draw horizontal bars with their values as text.

    Args:
        pairs: name and value, not negative.
        total: also write each value's share of this.
        unit: written behind each value.
    """
    pairs = list(pairs)
    longest = max((value for _, value in pairs), default=0) or 1
    lines = []
    for name, value in pairs:
        share = f" ({value / total:.1%})" if total else ""
        bar = element("span", class_="bar", style=f"width:{100 * value / longest:.2f}%")
        text = f"{number(value)}{unit and ' ' + unit}{share}"
        cells = [_cell(name, "th", scope="row"), element("td", bar, class_="track")]
        lines.append(element("tr", *cells, element("td", text, class_="number")))
    return element("table", element("tbody", *lines), class_="bars")


def line_chart(
    x: Sequence[float], y: Sequence[float], x_label: str, y_label: str, alt: str = ""
) -> Html:
    """Draw y over x as a line above a filled area; the y axis begins at 0.

    Args:
        x: rising, at least one value.
        y: as many values.
        x_label: what x is, with its unit.
        y_label: what y is, with its unit.
        alt: what the chart shows, for those who do not see it.
    """
    low, high = min(x), max(x)
    x_ticks, y_ticks = _ticks(low, high), _ticks(0, max(*y, 0))
    top = 1.05 * max(y) or 1
    width = (high - low) or 1
    points = [
        f"{1000 * (a - low) / width:.1f},{1000 - 1000 * b / top:.1f}"
        for a, b in zip(x, y, strict=True)
    ]
    line = "M" + " L".join(points)
    inside = Html(
        f'<path class="fill" d="{line} L1000,1000 L0,1000 Z"/><path class="line" d="{line}"/>'
    )
    drawing = _drawing(inside, alt or f"{y_label} over {x_label}")
    return _plot(
        drawing,
        [((tick - low) / width, number(tick)) for tick in x_ticks],
        [(tick / top, number(tick)) for tick in y_ticks],
        x_label,
        y_label,
    )


def histogram(
    edges: Sequence[float],
    counts: Sequence[float],
    x_label: str,
    y_label: str = "clips",
    alt: str = "",
) -> Html:
    """Draw counted bins.

    Args:
        edges: borders of the bins, rising, one more than bins.
        counts: how many values each bin holds; at least one bin.
        x_label: what was counted, with its unit.
        y_label: what the counts are.
        alt: what the chart shows, for those who do not see it.
    """
    low, width = edges[0], edges[-1] - edges[0]
    y_ticks = _ticks(0, max(counts))
    top = 1.05 * max(counts) or 1
    boxes = []
    for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True):
        x, y = 1000 * (left - low) / width, 1000 - 1000 * count / top
        # A bin of one clip beside a million stays visible.
        y = min(y, 992) if count else 1000
        text = escape(f"{number(left)} to {number(right)}: {number(count)}")
        boxes.append(
            f'<rect x="{x:.2f}" y="{y:.2f}" width="{0.92 * 1000 * (right - left) / width:.2f}" '
            f'height="{1000 - y:.2f}"><title>{text}</title></rect>'
        )
    return _plot(
        _drawing(Html("".join(boxes)), alt or f"{y_label} by {x_label}"),
        [((tick - low) / width, number(tick)) for tick in _ticks(low, edges[-1])],
        [(tick / top, number(tick)) for tick in y_ticks],
        x_label,
        y_label,
    )


def _ticks(low: float, high: float) -> list[float]:
    """Choose up to six round numbers inside a range."""
    rough = (high - low) / 5
    if not rough > sys.float_info.min:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * by for by in (1, 2, 5, 10) if power * by >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(step * i, 12) for i in range(first, last + 1)]


def _drawing(inside: Html, alt: str) -> Html:
    """Build an SVG that is stretched to its place; both axes go from 0 to 1000."""
    return element(
        "svg", inside, viewBox="0 0 1000 1000", preserveAspectRatio="none", role="img",
        aria_label=alt,
    )  # fmt: skip


def _plot(
    content: Html,
    x_ticks: Iterable[tuple[float, str]],
    y_ticks: Iterable[tuple[float, str]],
    x_label: str,
    y_label: str,
) -> Html:
    """Frame a chart or a picture; ticks are (part of the axis from 0 to 1, text).

    The writing is HTML, so it keeps its size on a narrow screen where the drawing shrinks.
    """
    below = [element("span", text, style=f"left:{100 * at:.2f}%") for at, text in x_ticks]
    beside = [element("span", text, style=f"bottom:{100 * at:.2f}%") for at, text in y_ticks]
    return element(
        "div",
        element("div", y_label, class_="y-label"),
        element("div", *beside, class_="y-ticks", aria_hidden="true"),
        element("div", content, class_="area"),
        element("div", *below, class_="x-ticks", aria_hidden="true"),
        element("div", x_label, class_="x-label"),
        class_="plot",
    )


def spectrogram(log_mel: np.ndarray, seconds: float, alt: str, span: float = 18.4) -> Html:
    """Show a log-mel: time to the right, low bins at the bottom.

    Args:
        log_mel: natural log of power, float [T, F].
        seconds: length of the T frames.
        alt: what is shown, for those who do not see it.
        span: what lies this far below the loudest value is black; 18.4 is 80 dB.
    """
    values = np.nan_to_num(log_mel.astype(np.float32), nan=-1e4, posinf=1e4, neginf=-1e4)
    top = values.max()
    scaled = np.clip((values - top + span) / span, 0, 1)
    levels = np.rint(scaled * (_LEVELS - 1)).astype(np.uint8)
    source = _data_uri("image/png", png(levels.T[::-1], colours(_LEVELS)))
    picture = Html(f'<img src="{source}" alt="{escape(alt)}">')
    times = [(tick / seconds, number(tick)) for tick in _ticks(0, seconds)]
    n_mels = log_mel.shape[1]
    return _plot(picture, times, [(0, "0"), (1, str(n_mels - 1))], "time, s", "mel bin")


def player(samples: np.ndarray, sample_rate: int, name: str = "sound") -> Html:
    """Build an audio player around a sound, int16 [T]; `sample_rate` in Hz."""
    if samples.dtype != np.int16 or samples.ndim != 1:
        raise ValueError(f"a sound is int16 [T], got {samples.dtype} {samples.shape}")
    buffer = io.BytesIO()
    with wave_file.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.astype("<i2").tobytes())
    source = _data_uri("audio/wav", buffer.getvalue())
    return Html(
        f'<audio controls preload="metadata" aria-label="{escape(name)}" src="{source}"></audio>'
    )


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"

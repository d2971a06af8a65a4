"""Charts as data: where lines, boxes, bars and ticks are, and their texts. Templates draw."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .picture import colours, data_uri, png

FULL = 1000
"""Both axes of a plot go from 0 to this, y downwards."""
BINS = 40
LEVELS = 64
Ticks = Sequence[tuple[float, str]]
"""Position in percent of the axis, and text."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A named value, for the macro `bar_chart`."""

    name: str
    value: float
    text: str
    std: float | None = None
    kind: str = "ours"
    """Its colour: "ours", "random", "run" or "published"."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A line, boxes or a picture over two axes, for the macro `plot`."""

    x_label: str
    """Quantity and unit."""
    y_label: str
    x_ticks: Ticks
    y_ticks: Ticks
    alt: str
    """What the plot shows, for readers who cannot see it."""
    line: str = ""
    """Path of an SVG, drawn above a filled area."""
    boxes: Sequence[tuple[float, float, float, float, str]] = ()
    """Left, top, width, height and text of each."""
    picture: str = ""
    """URI of an image."""


def number(value: float) -> str:
    """Format a number for people: commas between thousands, four digits of a fraction."""
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def share(value: float, full: float) -> str:
    """Return a place on an axis from 0 to `full` in percent, clipped to the axis; 0 for NaN.

    A value of one clip beside a million stays visible.
    """
    if math.isnan(value):
        return "0%"
    return f"{100 * min(max(value / (full or 1), 0.003 if value > 0 else 0), 1):.2f}%"


def line_chart(x: np.ndarray, y: np.ndarray, x_label: str, y_label: str, alt: str) -> Plot:
    """Return a line of y, not negative, over x, rising: float [N] each, N > 0."""
    low, high, top = float(x[0]), float(x[-1]), 1.05 * float(y.max()) or 1
    points = zip(FULL * (x - low) / (high - low or 1), FULL - FULL * y / top, strict=True)
    return Plot(
        line="M" + " L".join(f"{a:.1f},{b:.1f}" for a, b in points),
        x_label=x_label, y_label=y_label, alt=alt,
        x_ticks=_ticks(low, high, high), y_ticks=_ticks(0, float(y.max()), top),
    )  # fmt: skip


def histogram(values: np.ndarray, x_label: str, alt: str, start: float | None = None) -> Plot:
    """Count clips in about 40 bins or fewer, whose edges are round numbers.

    Args:
        values: one for each clip, float [N], N > 0.
        start: where the axis begins; None: at the least value.
    """
    low, high = float(values.min()) if start is None else start, float(values.max())
    step = _round_step(max(high - low, 1), BINS)
    edges = step * np.arange(math.floor(low / step), math.floor(high / step) + 2)
    # Rounding can put the last edge just below the largest value.
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    most, width = int(counts.max()), FULL / len(counts)
    boxes = []
    for i, count in enumerate(counts.tolist()):
        # A bin of one clip beside a million stays visible.
        height = max(FULL * count / (1.05 * most), 8) if count else 0
        text = f"{number(edges[i])} to {number(edges[i + 1])}: {number(count)}"
        x, y = round(i * width, 2), round(FULL - height, 2)
        boxes.append((x, y, round(0.92 * width, 2), round(height, 2), text))
    return Plot(
        boxes=boxes, x_label=x_label, y_label="clips", alt=alt,
        x_ticks=_ticks(edges[0], edges[-1], edges[-1]), y_ticks=_ticks(0, most, 1.05 * most),
    )  # fmt: skip


def spectrogram(log_mel: np.ndarray, frames_per_s: float, alt: str, span: float = 18.4) -> Plot:
    """Return the picture of a log-mel: time to the right, low bins at the bottom.

    Args:
        log_mel: natural log of power, float [T, F].
        span: values this far below the loudest are black; 18.4 is 80 dB.
    """
    values = np.nan_to_num(log_mel.astype(np.float32), nan=-1e4, posinf=1e4, neginf=-1e4)
    scaled = np.clip((values - values.max() + span) / span, 0, 1)
    levels = np.rint(scaled * (LEVELS - 1)).astype(np.uint8)
    seconds, top = len(log_mel) / frames_per_s, str(log_mel.shape[1] - 1)
    return Plot(
        picture=data_uri("image/png", png(levels.T[::-1], colours(LEVELS))),
        x_label="time, s", y_label="mel bin", alt=alt,
        x_ticks=_ticks(0, seconds, seconds), y_ticks=[(0, "0"), (100, top)],
    )  # fmt: skip


def _round_step(span: float, most: int) -> float:
    """Return the least 1, 2 or 5 times a power of ten that cuts `span` into `most` steps."""
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * by for by in (1, 2, 5, 10) if power * by >= rough * 0.999)


def _ticks(low: float, high: float, end: float) -> Ticks:
    """Choose up to six round numbers from `low` to `high` on an axis from `low` to `end`."""
    values = [low]
    if (high - low) / 5 > sys.float_info.min:
        step = _round_step(high - low, 5)
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        values = [round(step * i, 12) for i in range(first, last + 1)]
    return [(round(100 * (at - low) / (end - low or 1), 2), number(at)) for at in values]

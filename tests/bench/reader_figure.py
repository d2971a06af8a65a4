"""Draw all rates of a bench as bars."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from reader_clock import Heat
from reader_report import Found

COLOURS: dict[Heat, str] = {"warm": "#d98e2b", "cold": "#3a6ea5"}


def draw(found: Found, out: Path) -> None:
    """Draw warm and cold rates of every way, the fastest (warm) at the top, on a log scale."""
    names = [way.name for way in found.ways if found.median(way.name, "warm")]
    names.sort(key=lambda name: found.median(name, "warm"))
    figure = Figure(figsize=(9, 1.2 + 0.38 * len(names)), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(names))
    for shift, (state, colour) in zip((0.2, -0.2), COLOURS.items(), strict=True):
        rates = [found.median(name, state) for name in names]
        bars = axes.barh(rows + shift, rates, 0.38, color=colour, label=f"{state} files")
        labels = [f"{rate:,.0f}" if rate else "" for rate in rates]
        axes.bar_label(bars, labels, padding=3, fontsize=7)
    axes.set(xscale="log", xlabel="crops/s", yticks=rows, yticklabels=names)
    axes.set_title("Random 0.95 s crops of 10 s clips, batches of 128")
    axes.margins(x=0.12, y=0.01)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name.startswith("CropReader") else "normal")
    axes.legend(loc="lower right")
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None, dpi=120)

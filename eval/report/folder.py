"""A report as a folder: `report.html`, `report.md` and `scores.csv`, each written atomically."""

import math
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import replacing
from audio_barlow_twins.shards.html.chart import Bar
from audio_barlow_twins.shards.html.page import render

from ..probe.recipe import ProbeRecipe
from . import details, words
from .comparison import RANDOM, Column, Comparison, Row, compare
from .published import Published, main_anchors, read_published
from .scores import TaskReport

TEMPLATES = Path(__file__).with_name("templates")
PACKAGES = ("torch", "numpy", "scipy", "soxr")


def write_report(
    out: Path,
    reports: Sequence[TaskReport],
    facts: Mapping[str, Any],
    protocol: ProbeRecipe,
    anchors: Sequence[Published] | None = None,
    *,
    ours: str = "",
    baseline: str = RANDOM,
    command: str = "",
) -> None:
    """Write the three files of a report on what has been scored so far.

    Args:
        out: folder; created if missing.
        reports: one for each task; a system may be missing from any.
        facts: what identifies the model, as plain values.
        protocol: how probes were trained.
        anchors: published systems for the tables, by default the paper's; the page folds all others
            away.
        ours: name of the report's subject; the first system if empty.
        baseline: name of the system to compare with.
        command: command line to print in the report.
    """
    published = read_published()
    shown = main_anchors(published) if anchors is None else anchors
    comparison = compare(reports, shown, published, ours, baseline)
    known = [*shown, *(each for each in published if each not in shown)]
    made = _flat(facts) | _circumstances(protocol, command)
    content = _content(comparison, protocol, made)
    texts = {name: render(TEMPLATES / name, **content) for name in ("report.html", "report.md")}
    texts["scores.csv"] = details.scores_csv(comparison, known)
    try:
        for name, text in texts.items():
            with replacing(out / name) as scratch:
                scratch.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror or error}") from error


def _content(
    comparison: Comparison, protocol: ProbeRecipe, made: Mapping[str, Any]
) -> dict[str, Any]:
    rows = comparison.runs + comparison.anchors
    shared = comparison.shared(rows)
    averages = [(row, row.average(shared)) for row in rows]
    others = comparison.shared(comparison.runs + comparison.others)
    return {
        "title": "HEAR report",
        "subtitle": comparison.runs[0].name if comparison.runs else "",
        "comparison": comparison,
        "protocol": protocol,
        "words": words,
        "details": details,
        "rows": rows,
        "shared": shared,
        "averages": [
            Bar(name=row.name, value=x, text=f"{words.percent(x)} %", kind=_kind(comparison, row))
            for row, x in averages
        ],
        "bars": partial(_bars, comparison),
        "best_average": best_average,
        # Without a shared task, all averages are NaN, and sorting keeps the order.
        "more": tuple(sorted(comparison.others, key=lambda row: -row.average(others))),
        "made": [(name, str(value)) for name, value in made.items()],
    }


def _circumstances(protocol: ProbeRecipe, command: str) -> dict[str, str]:
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    seeds = " ".join(map(str, protocol.seeds))
    made = {
        "protocol": f"{protocol.name}, seeds {seeds}, {protocol.grid_points} grid points",
        "written": datetime.now(UTC).isoformat(" ", "seconds"),
        "versions": f"Python {platform.python_version()}, {versions}",
    }
    return made | ({"command": command} if command else {})


def best_average(rows: Sequence[Row], tasks: Sequence[str]) -> float:
    """Return the best average of some rows; NaN without one."""
    return max((row.average(tasks) for row in rows), default=math.nan)


def _bars(comparison: Comparison, column: Column) -> list[Bar]:
    able = [row for row in (*comparison.anchors, *comparison.others) if column.task in row.cells]
    top = column.best(able)
    best = [row for row in able if row.cells[column.task].mean == top][:1]
    bars = []
    for row in (*comparison.runs, *best):
        cell = row.cells.get(column.task)
        if cell is not None and not math.isnan(cell.mean):
            text = " ".join(filter(None, words.written(cell, column)))
            kind = _kind(comparison, row)
            bars.append(Bar(name=row.name, value=cell.mean, std=cell.std, text=text, kind=kind))
    return bars


def _kind(comparison: Comparison, row: Row) -> str:
    if row.source:
        return "published"
    ours = comparison.runs[0]
    return "ours" if row is ours else "random" if row is comparison.baseline_of(ours) else "run"


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Join the names of an inner mapping to that of its parent."""
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        inner = value.items() if isinstance(value, Mapping) else [("", value)]
        flat |= {f"{name} {key}".strip(): each for key, each in inner}
    return flat

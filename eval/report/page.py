"""`report.html`: averages, tasks, bars, and what is behind each number; one file, no script."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from audio_barlow_twins.shards.html.page import Html, element, join, page, table, tiles

from ..probe.recipe import Protocol
from .chart import Bar, bar_chart
from .comparison import Column, Comparison, Row
from .details import task_details
from .style import STYLE
from .tables import average_table, best_score, score_table
from .words import count, headline, notes, percent, signed_percent, warnings, written


def report_page(
    comparison: Comparison, facts: Mapping[str, Any], protocol: Protocol, made: Mapping[str, str]
) -> str:
    """Build the page.

    Args:
        comparison: systems and tasks.
        facts: what identifies the model, as plain values.
        protocol: how probes were trained.
        made: when, with what and by which command, by name.
    """
    sections = [
        ("", join(Html(f"<style>{STYLE}</style>"), _headline(comparison, protocol))),
        ("Averages", _averages(comparison)),
        ("Scores by task", score_table(comparison)),
        ("Bars", _bars(comparison)),
        ("More published systems", _more(comparison)),
        ("Behind each score", join(*(task_details(each) for each in comparison.columns))),
        ("How to read this", _listed(notes(comparison, protocol))),
        ("How it was made", _provenance(facts, made)),
    ]
    ours = comparison.runs[0].name if comparison.runs else ""
    return page("HEAR report", [each for each in sections if each[1]], subtitle=ours)


def _listed(lines: Sequence[str]) -> Html:
    return element("ul", *(element("li", line) for line in lines)) if lines else Html("")


def _headline(comparison: Comparison, protocol: Protocol) -> Html:
    said = [element("p", line) for line in headline(comparison, protocol)]
    marked = [element("p", line, class_="warning") for line in warnings(comparison)]
    if not comparison.runs:
        return join(*said)
    ours = comparison.runs[0]
    base = comparison.baseline_of(ours)
    tasks = comparison.shared([ours, base] if base else [ours])
    figures = [("average", f"{percent(ours.average(tasks))} %")]
    if base:
        over = signed_percent(comparison.over_random(ours, tasks))
        figures += [(base.name, f"{percent(base.average(tasks))} %"), ("over random", over)]
    figures.append(("tasks averaged", f"{len(tasks)} of {len(comparison.columns)}"))
    return join(tiles(figures), *said, *marked)


def _averages(comparison: Comparison) -> Html:
    rows = [*comparison.runs, *comparison.anchors]
    if not rows:
        return Html("")
    shared = comparison.shared(rows)
    bars = [
        Bar(name=row.name, value=value, text=f"{percent(value)} %", kind=_kind(row, comparison))
        for row in rows
        if math.isfinite(value := row.average(shared))
    ]
    caption = f"Percent, over the {len(shared)} of {len(comparison.columns)} tasks that all have."
    parts = [average_table(comparison, comparison.runs, comparison.anchors, caption)]
    if bars:
        title = f"Average of {count(len(shared), 'task')}"
        parts += [element("h3", title), bar_chart(title, bars)]
    return join(*parts)


def _kind(row: Row, comparison: Comparison) -> str:
    if row.source:
        return "published"
    if row is comparison.runs[0]:
        return "ours"
    return "random" if row is comparison.baseline_of(comparison.runs[0]) else "run"


def _bars(comparison: Comparison) -> Html:
    figures = [_figure(column, comparison) for column in comparison.columns]
    words = (
        "Filled: systems that were run, with their deviation as a line. Outlined: the best of all "
        "published systems. Upright tick: chance. The table above has the same numbers."
    )
    return join(element("p", words, class_="quiet gap"), element("div", *figures, class_="plots"))


def _figure(column: Column, comparison: Comparison) -> Html:
    bars = []
    for row in (*comparison.runs, *_best_published(column, comparison)):
        cell = row.cells.get(column.task)
        if cell is not None and not math.isnan(cell.mean):
            text = " ".join(part for part in written(cell, column) if part)
            kind = _kind(row, comparison)
            bars.append(Bar(name=row.name, value=cell.mean, std=cell.std, text=text, kind=kind))
    full = 1.0 if column.is_share else max((bar.value for bar in bars), default=1.0) or 1.0
    caption = element(
        "figcaption", element("b", column.title), element("span", column.report.score)
    )
    title = f"{column.title}, {column.report.score}"
    return element("figure", caption, bar_chart(title, bars, column.report.chance, full))


def _best_published(column: Column, comparison: Comparison) -> list[Row]:
    able = [row for row in (*comparison.anchors, *comparison.others) if column.task in row.cells]
    top = best_score(column, able)
    return [row for row in able if row.cells[column.task].mean == top][:1]


def _more(comparison: Comparison) -> Html:
    if not comparison.others:
        return Html("")
    runs, others = comparison.runs, comparison.others
    shared = comparison.shared([*runs, *others])
    ranked = sorted(others, key=lambda row: -row.average(shared)) if shared else others
    caption = f"Percent, over the {len(shared)} of {len(comparison.columns)} tasks that all have."
    shown = average_table(comparison, runs, ranked, caption)
    return element(
        "details", element("summary", f"{len(others)} systems, best average first"), shown
    )


def _provenance(facts: Mapping[str, Any], made: Mapping[str, str]) -> Html:
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        inner = value.items() if isinstance(value, Mapping) else [("", value)]
        flat |= {f"{name} {key}".strip(): each for key, each in inner}
    return table([(name, element("code", str(value))) for name, value in {**flat, **made}.items()])

"""The tables of `report.html`: systems in rows; what was run above, what is published below."""

import math
from collections.abc import Sequence

from audio_barlow_twins.shards.html.page import Html, element, join

from .comparison import HEAR_L, Column, Comparison, Row
from .words import percent, signed_percent, written


def average_table(
    comparison: Comparison, runs: Sequence[Row], published: Sequence[Row], caption: str
) -> Html:
    """Lay out averages over the tasks that all rows have, by group and in all."""
    rows = [*runs, *published]
    shared = comparison.shared(rows)
    sets = {
        f"{group}, {len(tasks)}": tasks for group, tasks in comparison.groups(shared).items()
    } | {f"all, {len(shared)}": shared}
    sets |= {name: tasks for name, tasks in HEAR_L.items() if set(tasks) <= set(shared)}
    tops = {
        name: [
            max((row.average(tasks) for row in part), default=math.nan)
            for part in (runs, published)
        ]
        for name, tasks in sets.items()
    }
    head = ["system", *sets, "over random", "its own tasks"]
    lines = []
    for part, some in enumerate((runs, published)):
        if part and some:
            lines.append(_parting(len(head)))
        for row in some:
            cells = [
                _number(percent(value), best=value == tops[name][part])
                for name, tasks in sets.items()
                for value in [row.average(tasks)]
            ]
            over = _number(signed_percent(comparison.over_random(row, shared)))
            own = row.known(comparison.columns)
            owned = f"{len(own)} of {len(comparison.columns)}"
            cells += [over, _number(percent(row.average(own)), owned)]
            lines.append(_line(row, cells, comparison))
    top = element("tr", *(element("th", name, scope="col") for name in head))
    return _framed(caption, element("thead", top), lines)


def score_table(comparison: Comparison) -> Html:
    """Lay out every score: tasks in columns, by group."""
    if not comparison.columns:
        return Html("")
    spans = [
        element("th", group, scope="colgroup", colspan=str(len(tasks)))
        for group, tasks in comparison.groups().items()
    ]
    names = [
        element("th", each.title, element("span", each.report.score.replace("_", " ")), scope="col")
        for each in comparison.columns
    ]
    head = element(
        "thead",
        element("tr", element("th", ""), *spans),
        element("tr", element("th", "system", scope="col"), *names),
    )
    chances = [
        element("td", "-" if (chance := each.report.chance) is None else percent(chance))
        for each in comparison.columns
    ]
    lines = []
    for part, some in enumerate((comparison.runs, comparison.anchors)):
        if part and some:
            lines.append(_parting(len(names) + 1))
        best = {each.task: best_score(each, some) for each in comparison.columns}
        for row in some:
            cells = [
                _number(
                    *written(cell, each), best=cell is not None and cell.mean == best[each.task]
                )
                for each in comparison.columns
                for cell in [row.cells.get(each.task)]
            ]
            lines.append(_line(row, cells, comparison))
        if not part:
            lines.append(element("tr", element("th", "chance", scope="row"), *chances))
    return _framed("Percent; the best of each part is underlined.", head, lines)


def best_score(column: Column, rows: Sequence[Row]) -> float:
    """Return the best score of some rows on a task; NaN, which nothing equals, if there is none."""
    known = [row.cells[column.task].mean for row in rows if column.task in row.cells]
    known = [value for value in known if not math.isnan(value)]
    choose = min if column.is_minimised else max
    return choose(known, default=math.nan)


def _framed(words: str, head: Html, lines: Sequence[Html]) -> Html:
    """Put a table into a frame that scrolls by itself, also from the keyboard."""
    whole = element("table", head, element("tbody", *lines))
    frame = element(
        "div", whole, class_="wide scores", role="region", tabindex="0", aria_label=words
    )
    return join(element("p", words, class_="quiet"), frame)


def _parting(width: int) -> Html:
    return element(
        "tr", element("th", "published"), element("td", colspan=str(width - 1)), class_="part"
    )


def _line(row: Row, cells: Sequence[Html], comparison: Comparison) -> Html:
    name = join(row.name, element("span", row.source) if row.source else Html(""))
    kind = "ours" if row is comparison.runs[0] else ""
    return element("tr", element("th", name, scope="row"), *cells, class_=kind)


def _number(text: str, small: str = "", best: bool = False) -> Html:
    below = element("span", small) if small else Html("")
    return element("td", element("b", text), below, class_="best" if best else "")

"""The report of an ablation: a CSV table, a page, and a figure with published scores."""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from io import StringIO
from pathlib import Path
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from audio_barlow_twins.eval.probe.result import deviation, mean
from audio_barlow_twins.shards.base.files import replacing

from ..run.pictures import new_figure, save
from .config import Ablation
from .grids import cells_of

PUBLISHED = Path(__file__).with_name("published.csv")
OURS, THEIRS = "#3b6fb6", "#c9c9c9"

Scores = dict[str, dict[str, list[float]]]
"""By task and cell: one score per seed."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A run's score on a task; a row of results.csv."""

    cell: str
    seed: int
    task: str
    score: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A panel of the figure: one task, or the mean of all, in percent."""

    title: str
    ours: dict[str, list[float]]
    """By cell: one score per seed."""
    published: dict[str, float]

    def ours_of(self, cell: str) -> tuple[float, float]:
        """Return mean and deviation over seeds; NaN if there is no score, or just one."""
        values = self.ours.get(cell, [])
        return mean(values), deviation(values)


def write_report(config: Ablation, results: Sequence[Result], failures: dict[str, str]) -> str:
    """Write results.csv, report.md and ablation.png; return the table and their paths as text."""
    out, cells = config.folder, [cell.name for cell in cells_of(config)]
    panels = panels_of(results, published() if config.grid == "views" else {}, cells)
    with replacing(out / "results.csv") as scratch:
        scratch.write_text(rows_of(results))
    table = table_of(panels, cells)
    with replacing(out / "report.md") as scratch:
        scratch.write_text(page_of(config, panels, table, failures))
    draw(config, panels, cells, out / "ablation.png")
    failed = [f"failed   {name}: {why}" for name, why in failures.items()]
    return "\n".join([*table, "", *failed, f"report   {out}: report.md, ablation.png, results.csv"])


def published() -> dict[tuple[str, str], float]:
    """Read the published scores by cell and task, from 0 to 1; the file names its source."""
    lines = PUBLISHED.read_text().splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {(row["cell"], row["task"]): float(row["score"]) for row in rows}


def panels_of(
    results: Iterable[Result], theirs: dict[tuple[str, str], float], cells: Sequence[str]
) -> list[Panel]:
    """Group scores by task; if there are several tasks, their mean is the first panel."""
    found: dict[str, dict[tuple[str, int], float]] = {}
    for result in results:
        found.setdefault(result.task, {})[result.cell, result.seed] = 100 * result.value
    panels = [
        Panel(
            title=task,
            ours=_by_cell(scores),
            published={cell: 100 * theirs[cell, task] for cell in cells if (cell, task) in theirs},
        )
        for task, scores in sorted(found.items())
    ]
    if len(panels) < 2:
        return panels
    complete = set.intersection(*(set(scores) for scores in found.values()))
    means = {run: mean([scores[run] for scores in found.values()]) for run in sorted(complete)}
    known = set.intersection(*(set(panel.published) for panel in panels))
    average = Panel(
        title=f"mean of the {len(panels)} tasks",
        ours=_by_cell(means),
        published={cell: mean([panel.published[cell] for panel in panels]) for cell in known},
    )
    return [average, *panels]


def _by_cell(scores: dict[tuple[str, int], float]) -> dict[str, list[float]]:
    cells: dict[str, list[float]] = {}
    for (cell, _), value in scores.items():
        cells.setdefault(cell, []).append(value)
    return cells


def rows_of(results: Sequence[Result]) -> str:
    """Return results as CSV, with the published score of the same cell and task, from 0 to 1."""
    text, theirs = StringIO(), published()
    names = [*(field.name for field in fields(Result)), "published"]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for result in results:
        known = theirs.get((result.cell, result.task), "")
        writer.writerow(asdict(result) | {"published": known})
    return text.getvalue()


def table_of(panels: Sequence[Panel], cells: Sequence[str]) -> list[str]:
    """Return the lines of a Markdown table: a row per cell, one or two columns per panel."""
    columns = [["setting", *cells]]
    for panel in panels:
        columns.append([panel.title, *(_written(*panel.ours_of(cell)) for cell in cells)])
        if panel.published:
            theirs = (_written(panel.published.get(cell, math.nan)) for cell in cells)
            columns.append(["published", *theirs])
    widths = [max(map(len, column)) for column in columns]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    first, *rest = zip(*columns, strict=True)
    rows = [first, rule, *rest]
    lines = []
    for name, *numbers in rows:
        aligned = (number.rjust(w) for number, w in zip(numbers, widths[1:], strict=True))
        lines.append(f"| {' | '.join([name.ljust(widths[0]), *aligned])} |")
    return lines


def _written(value: float, spread: float = math.nan) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.1f}" + ("" if math.isnan(spread) else f" ± {spread:.1f}")


def page_of(
    config: Ablation, panels: Sequence[Panel], table: Sequence[str], failures: dict[str, str]
) -> str:
    """Return the page: what was compared, the table, the figure, and what has failed."""
    lines = [
        f"# Ablation: {config.grid}",
        "",
        f"{summary_of(config, panels)}. Percent; mean ± standard deviation over seeds; scored by "
        f"protocol {config.protocol}. All settings: `ablation.json`, all scores: `results.csv`.",
        "",
        *table,
        "",
        "![The table as bars](ablation.png)",
        "",
        *(f"- `{name}` failed: {why}" for name, why in failures.items()),
    ]
    return "\n".join(lines).rstrip() + "\n"


def summary_of(config: Ablation, panels: Sequence[Panel]) -> str:
    """Describe our scores, and the published ones if there are any, in a line."""
    base, seeds = config.base, " ".join(map(str, config.seeds))
    words = (
        f"Ours: {base.encoder} on {base.shards}, epochs {base.epochs:g}, batch {base.batch}, "
        f"seeds {seeds}"
    )
    if any(panel.published for panel in panels):
        words += "; published: AudioNTT on FSD50K dev, epochs 100, one run (Anton et al., 2023)"
    return words


def draw(config: Ablation, panels: Sequence[Panel], cells: Sequence[str], path: Path) -> None:
    """Draw each panel as a row: for each cell our score with its deviation, and the published."""
    if not panels:
        return
    width = max(6.0, 1.6 + 0.75 * len(cells))
    figure = new_figure(width, 1.6 + 2.4 * len(panels))
    rows = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    for axes, panel in zip(rows, panels, strict=True):
        draw_panel(axes, panel, cells)
    rows[-1].set_xticks(range(len(cells)), cells, rotation=30, ha="right")
    words = fill(summary_of(config, panels), int(15 * width))
    figure.suptitle(f"Ablation: {config.grid}\n{words}", fontsize="small")
    if any(panel.published for panel in panels):
        ours, theirs = (Rectangle((0, 0), 1, 1, color=color) for color in (OURS, THEIRS))
        figure.legend([ours, theirs], ["ours", "published"], loc="outside lower center", ncols=2)
    save(figure, path)


def draw_panel(axes: Axes, panel: Panel, cells: Sequence[str]) -> None:
    width = 0.4 if panel.published else 0.6
    shift = width / 2 if panel.published else 0.0
    ours = [panel.ours_of(cell) for cell in cells]
    spread = [0.0 if math.isnan(deviation) else deviation for _, deviation in ours]
    theirs = [(panel.published.get(cell, math.nan), math.nan) for cell in cells]
    for side, scores, color, ink in ((-1, ours, OURS, "white"), (1, theirs, THEIRS, "black")):
        places, heights = [i + side * shift for i in range(len(cells))], [s for s, _ in scores]
        axes.bar(places, heights, width, color=color)
        for place, height in zip(places, heights, strict=True):
            if not math.isnan(height):
                axes.text(place, 0, f"{height:.1f}", ha="center", va="bottom", size=7, color=ink)
        if side < 0 and any(spread):
            axes.errorbar(places, heights, spread, fmt="none", color="black", capsize=3)
    axes.set(title=panel.title, ylabel="score, %", ylim=(0, None))
    axes.set_axisbelow(True)
    axes.grid(axis="y", alpha=0.3)

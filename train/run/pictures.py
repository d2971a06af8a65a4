"""Pictures of a run, drawn from the files in its folder: the curves and the cross-correlation."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audio_barlow_twins.shards.base.files import replacing

from .evaluation import LOOKS
from .folder import read_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = {
    "loss": "loss",
    "on_diagonal": "on-diagonal term",
    "off_diagonal_weighted": "off-diagonal term x lambda",
}

log = logging.getLogger(__name__)


def draw_run(run: Path) -> None:
    """Draw loss.png and correlation.png into a run folder, if matplotlib is installed."""
    try:
        draw_curve(run)
        draw_correlations(run)
    except ImportError:
        log.warning("no loss.png, no correlation.png: install matplotlib (extra `train`)")


def draw_curve(run: Path) -> None:
    """Draw loss, its terms and the learning rate over steps; below, the evaluations."""
    lines = read_metrics(run / "metrics.jsonl")
    if not lines:
        return
    looks = [line for line in lines if "effective_rank" in line]
    figure = new_figure(8, 8 if looks else 5)
    panels = figure.subplots(2 if looks else 1, 1, squeeze=False, sharex=True)[:, 0]
    steps = [line["step"] for line in lines]
    for name, label in CURVES.items():
        panels[0].plot(steps, [line[name] for line in lines], label=label)
    panels[0].set(ylabel="loss", yscale="log", title=f"Audio Barlow Twins, {run.name}")
    panels[0].legend()
    rate = panels[0].twinx()
    rate.plot(steps, [line["lr"] for line in lines], color="grey", linestyle=":")
    rate.set_ylabel("learning rate of weights (dotted)")
    if looks:
        _draw_looks(panels[1], looks)
    for axes in panels:
        axes.grid(alpha=0.3)
    panels[-1].set_xlabel("step")
    save(figure, run / "loss.png")


def _draw_looks(axes: Any, looks: list[dict[str, float]]) -> None:
    steps = [line["step"] for line in looks]
    axes.plot(steps, [line["effective_rank"] for line in looks], "o-", color="black")
    axes.set_ylabel("effective rank of the embeddings (black)")
    axes.set_ylim(bottom=0)
    probes = sorted({name for line in looks for name in line if name.startswith("probe_")})
    if not probes:
        return
    scores = axes.twinx()
    for name in probes:
        scores.plot(steps, [line.get(name, np.nan) for line in looks], "o--", label=name[6:])
    scores.set_ylabel("score of the probe")
    scores.legend()


def draw_correlations(run: Path) -> None:
    """Draw what `keep_correlation` stored as correlation.png, one panel per evaluation."""
    paths = sorted((run / "correlations").glob("*.npy"))
    if not paths:
        return
    paths = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, LOOKS).round().astype(int))]
    columns = min(4, len(paths))
    rows = -(-len(paths) // columns)
    figure = new_figure(2.4 * columns + 0.8, 2.5 * rows + 0.5)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, path in zip(panels.flat, paths, strict=False):
        corner = np.load(path).astype(np.float32)
        image = axes.imshow(corner, vmin=-1, vmax=1, cmap="RdBu_r", interpolation="nearest")
        axes.set(title=f"step {int(path.stem)}", xticks=[], yticks=[])
    for axes in panels.flat[len(paths) :]:
        axes.set_axis_off()
    figure.colorbar(image, ax=panels, shrink=0.8)
    figure.suptitle(f"cross-correlation of the views, first {len(corner)} features, {run.name}")
    save(figure, run / "correlation.png")


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure; sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, atomically."""
    with replacing(path) as scratch:
        figure.savefig(scratch, format="png", dpi=120)

"""The runs of each ablation: what is varied, and where the values come from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from audio_barlow_twins.shards.base.errors import UserError

from ..config import TrainConfig
from ..views.registry import view_names
from .config import Ablation

FIGURE_2: dict[str, tuple[str, ...]] = {
    "mixup+rrc+rlf+ppn": ("mixup", "rrc", "rlf"),
    "mixup+rrc+rlf+noise": ("mixup", "noise", "rrc", "rlf"),
    "mixup+rrc+rlf": ("mixup", "rrc", "rlf"),
    "noise+rrc+rlf": ("noise", "rrc", "rlf"),
    "rrc": ("rrc",),
    "mixup": ("mixup",),
    "noise": ("noise",),
    "rlf": ("rlf",),
    "random": (),
}
"""The combinations of the paper's Figure 2. As in its authors' code, noise comes after mixup, and
PPN normalises each view by itself."""
PAIRS: dict[str, tuple[str, ...]] = {
    "mixup+rrc": ("mixup", "rrc"),
    "mixup+rlf": ("mixup", "rlf"),
    "rrc+rlf": ("rrc", "rlf"),
}
"""Further ones for which the authors have published scores."""
RANDOM = "random"
"""The cell whose encoder is not trained."""

BATCHES = (64, 128, 256, 512, 1024)
"""Ours: powers of two around the paper's 128. Learning rates scale with the batch."""
CROPS = (48, 64, 96, 128, 192)
"""Ours: half to twice the 96 frames of the paper."""
PASSES = (0.25, 0.5, 1, 2, 4)
"""Ours: epochs relative to the run's own. Each has its whole schedule, down to a rate of 0."""
LAMBDAS = (0.0005, 0.0015, 0.005, 0.015, 0.05)
"""Ours: a decade to each side of 0.005, the value of the paper and of Zbontar et al. (2021)."""
LAYERS = (0, 1, 2, 3)
"""Hidden layers of the projector; the paper has one, Zbontar et al. two. Ours."""
WIDTHS = (1024, 2048, 4096, 8192, 16384)
"""Of the projector's hidden layers; the paper has 8192. Ours."""
OUTS = (64, 256, 1024, 4096)
"""Of the projector's output; the paper has 256 in its ablations, 1024 on AudioSet. Ours."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One setting of an ablation."""

    name: str
    config: TrainConfig
    trained: bool = True
    """False: the encoder keeps its random weights."""


def cells_of(config: Ablation) -> list[Cell]:
    """Return the cells of an ablation, in the order of its figure.

    Raises:
        UserError: the grid has no cell of a name in `config.cell`.
    """
    known = GRIDS[config.grid](config.base)
    usual = [name for name in known if name not in PAIRS]
    if config.grid == "views":
        known |= _combinations(config.base, [name for name in config.cell if name not in known])
    if unknown := [name for name in config.cell if name not in known]:
        raise UserError(f"grid {config.grid} has no cell {unknown[0]!r}, only {', '.join(known)}")
    return [
        Cell(name=name, config=changed, trained=name != RANDOM)
        for name, changed in known.items()
        if name in (config.cell or usual)
    ]


def _views(base: TrainConfig) -> dict[str, TrainConfig]:
    def cell(name: str, views: tuple[str, ...]) -> TrainConfig:
        return replace(base, views=views, normalise="ppn-per-view" if "ppn" in name else "set")

    return {name: cell(name, views) for name, views in (FIGURE_2 | PAIRS).items()}


def _combinations(base: TrainConfig, names: list[str]) -> dict[str, TrainConfig]:
    """Return cells that are named by their views, such as time-stretch+pitch-shift."""
    found = {}
    for name in names:
        views = tuple(name.split("+"))
        if set(views) <= set(view_names()):
            found[name] = replace(base, views=views)
    return found


def _one_field(
    base: TrainConfig, word: str, name: str, values: tuple[Any, ...]
) -> dict[str, TrainConfig]:
    return {f"{word}-{value:g}": replace(base, **{name: value}) for value in values}


def _projectors(base: TrainConfig) -> dict[str, TrainConfig]:
    changes = [
        *({"projector_layers": n} for n in LAYERS),
        *({"projector_hidden": n} for n in WIDTHS),
        *({"projector_out": n} for n in OUTS),
    ]
    configs = [replace(base, **change) for change in changes]  # type: ignore[arg-type]
    return {_size(config): config for config in configs}  # the base comes up three times


def _size(config: TrainConfig) -> str:
    width = f"x{config.projector_hidden}" if config.projector_layers else ""
    return f"{config.projector_layers}{width}-{config.projector_out}"


GRIDS: dict[str, Callable[[TrainConfig], dict[str, TrainConfig]]] = {
    "views": _views,
    "batch": lambda base: _one_field(base, "batch", "batch", BATCHES),
    "crop": lambda base: _one_field(base, "crop", "crop_frames", CROPS),
    "epochs": lambda base: _one_field(
        base, "epochs", "epochs", tuple(base.epochs * n for n in PASSES)
    ),
    "lambda": lambda base: _one_field(base, "lambda", "lambda_", LAMBDAS),
    "projector": _projectors,
}

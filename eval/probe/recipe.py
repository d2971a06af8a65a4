"""How a task's probes are trained and chosen: heareval's protocol, and variants of it.

`HEAREVAL` does what heareval 2021.1.3 does, and draws the same random numbers in the same order,
so its scores are heareval's wherever the sums are rounded alike: one torch build, one number of
threads. It follows these ways of heareval, which a new protocol would not choose:

- Of the 16 points of the grid, the first eight of one fixed shuffle are tried, on the first
  arrangement of folds only.
- Training batches are never shuffled: rows stay in the order of the embeddings, which is that of
  the task's JSON files, shuffled once with seed 0 (`embedding_order`).
- One random generator serves all trainings of a task, one after another, and is never seeded
  again; a batch that torchinfo makes up and the seeds of data loaders are drawn from it, too.
- A validation score that is not finite ends training; F-measures are NaN as long as no event is
  detected.
- Validation scores are compared as float32.
- Of two equally good ways to make events, the one with the larger settings is taken.
"""

import base64
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch

from audio_barlow_twins.shards.base.errors import UserError

from ..tasks.metadata import TaskError, TaskMetadata


@dataclass(frozen=True, kw_only=True)
class Point:
    """Hyperparameters of one probe, by heareval's names."""

    hidden_layers: int = 1
    hidden_dim: int = 1024
    dropout: float = 0.1
    initialization: str = "xavier_uniform_"
    """Of the weights: "xavier_uniform_" or "xavier_normal_"."""
    lr: float = 1e-3
    batch_size: int = 1024
    max_epochs: int = 500
    check_val_every_n_epoch: int = 3
    patience: int = 20
    """Validations without improvement after which training stops."""

    def __post_init__(self) -> None:
        if self.max_epochs < self.check_val_every_n_epoch:
            raise UserError(
                f"max_epochs is {self.max_epochs}, so no epoch is validated; "
                f"wanted at least {self.check_val_every_n_epoch}"
            )


Grid = Mapping[str, Sequence[Any]]

GRID: Grid = {
    "hidden_layers": (1, 2),
    "initialization": ("xavier_uniform_", "xavier_normal_"),
    "lr": (3.2e-3, 1e-3, 3.2e-4, 1e-4),
}
# heareval's own settings of a task, by task name.
TASK_GRIDS: Mapping[str, Grid] = {"dcase2016_task2": {"check_val_every_n_epoch": (10,)}}


@dataclass(frozen=True, kw_only=True)
class ProbeRecipe:
    """What is done alike for every task."""

    name: str
    grid: Grid = field(default_factory=lambda: GRID)
    """Values to combine, unless a task sets its own."""
    grid_points: int = 8
    """How many combinations to try."""
    grid_seed: int = 42
    """Chooses and orders the combinations."""
    seeds: tuple[int, ...] = (42,)
    """The whole of grid, folds and tests is done once for each."""
    chained: bool = True
    """One generator serves all trainings of a seed; otherwise each has its own."""
    shuffle: bool = False
    """Draw the training batches anew in every epoch."""
    stop_at_nan: bool = True
    """A validation that is not finite ends training; otherwise it just improves nothing."""
    batched: bool = False
    """Train grid points, folds and seeds at once, in bfloat16 where the device has it."""


HEAREVAL = ProbeRecipe(name="heareval")
FAST = ProbeRecipe(name="fast", chained=False, batched=True)
ROBUST = ProbeRecipe(name="robust", seeds=(0, 1, 2), chained=False, shuffle=True, stop_at_nan=False)
RECIPES = {recipe.name: recipe for recipe in (HEAREVAL, FAST, ROBUST)}


def points_of(metadata: TaskMetadata, recipe: ProbeRecipe) -> tuple[Point, ...]:
    """List the hyperparameters to try, in order."""
    grid = {
        **recipe.grid, **TASK_GRIDS.get(metadata.task_name, {}), **metadata.param_grid,
    }  # fmt: skip
    if unknown := sorted(grid.keys() - {known.name for known in fields(Point)}):
        raise TaskError(f"{metadata.name}: sets {unknown[0]!r}, which is no hyperparameter")
    names = sorted(grid)
    combinations = list(itertools.product(*(grid[name] for name in names)))
    random.Random(recipe.grid_seed).shuffle(combinations)
    chosen = combinations[: recipe.grid_points]
    return tuple(Point(**dict(zip(names, values, strict=True))) for values in chosen)


def training_seed(seed: int, index: int) -> int:
    """Seed the generator of a training of its own: number `index` of those with `seed`."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> 1)


def draw_made_up_batch(d_in: int) -> None:
    """Draw what torchinfo draws when heareval has built a network."""
    torch.rand(64, d_in)


def draw_loader_seed() -> None:
    """Draw what a data loader draws each time it is iterated."""
    torch.empty((), dtype=torch.int64).random_()


@contextmanager
def own_generators(device: torch.device) -> Iterator[None]:
    """Leave torch's global generators as they were before the block."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def generator_state(device: torch.device) -> str:
    """Write down where torch's global generators are, as base64."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return " ".join(base64.b64encode(state.numpy().tobytes()).decode() for state in states)


def set_generator_state(written: str, device: torch.device) -> None:
    """Put torch's global generators where `generator_state` found them."""
    states = [
        torch.tensor([*base64.b64decode(part)], dtype=torch.uint8) for part in written.split()
    ]
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)

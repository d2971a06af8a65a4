"""What an ablation is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from audio_barlow_twins.shards.base.cli import arg
from audio_barlow_twins.shards.base.errors import UserError

from ..config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Train one encoder a setting and seed, score each on HEAR tasks, and compare.

    What is finished is not done again; a run that was interrupted goes on from its checkpoint. Runs
    are tasks of Ray: one GPU each where the cluster of RAY_ADDRESS, or this machine, has some.
    """

    tasks_dir: Path
    """Folder of HEAR task folders, with clips at the sample rate of the shards."""
    task: tuple[str, ...] = ()
    """Names of the task folders to score; all tasks if left out."""
    grid: Literal["views", "batch", "lambda", "projector"] = "views"
    """What is varied. views: the combinations of the paper's Figure 2. batch: 64 to 1024. lambda:
    0.0005 to 0.05. projector: 0 to 3 hidden layers, 1024 to 16384 wide, 64 to 4096 out, one of them
    at a time. The paper names no values for the last three; the choice is ours."""
    cell: tuple[str, ...] = ()
    """Which settings of the grid to do, such as rrc or batch-256; all if left out. Of the views
    any others may be named, such as mixup+rrc or, from waves, time-stretch+pitch-shift."""
    seeds: tuple[int, ...] = (0,)
    """Each setting is trained once for each; the figure shows means and deviations."""
    protocol: Literal["heareval", "fast", "robust"] = "heareval"
    """How tasks are scored, as for `abt eval hear`."""
    out: Path | None = None
    """Folder of the results and of all runs, CELL/seed-S; runs/ablation-GRID if left out. All nodes
    of a cluster must see it, local shards and the tasks at the same paths."""
    cpus: int = 1
    """CPUs of a run, which it computes with as many threads."""
    slots: int | None = None
    """CPUs to use on this machine; default: all."""
    base: Annotated[TrainConfig, arg(name="")]
    """What the runs have in common; folder and seed of each come from above."""

    @property
    def folder(self) -> Path:
        """Where everything goes."""
        return self.out or Path(f"runs/ablation-{self.grid}")

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"seeds are {self.seeds}; give at least one, each once")
        if self.cpus < 1 or (self.slots is not None and self.slots < self.cpus):
            raise UserError(f"cpus is {self.cpus}, slots {self.slots}; give a run 1 to all of them")
        if self.base.seed or self.base.resume or self.base.workers > 1:
            raise UserError(
                "--seed, --resume and --workers are for single runs; an ablation takes --seeds, "
                "goes on by itself and gives each run one process"
            )

    def run(self) -> None:
        """Train and score what is missing, then write the figure and the page."""
        from .ablation import ablate

        ablate(self)

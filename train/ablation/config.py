"""The config of an ablation; a field's text is its --help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from audio_barlow_twins.shards.base.cli import arg
from audio_barlow_twins.shards.base.errors import UserError

from ..config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Train one encoder per setting and seed, score each on HEAR tasks, and compare.

    Finished runs are skipped, and interrupted ones resume from their checkpoints. Runs are Ray
    tasks, with one GPU each if the cluster of RAY_ADDRESS, or this machine, has any.
    """

    tasks_dir: Path
    """Folder of HEAR task folders, with clips at the sample rate of the shards."""
    task: tuple[str, ...] = ()
    """Names of the task folders to score; default: all."""
    grid: Literal["views", "batch", "crop", "epochs", "lambda", "projector"] = "views"
    """What is varied. views: the combinations of the paper's Figure 2. batch: 64 to 1024. crop:
    48 to 192 frames. epochs: a quarter to four times those of the run. lambda: 0.0005 to 0.05.
    projector: 0 to 3 hidden layers, 1024 to 16384 wide, 64 to 4096 out, one of them at a time. The
    paper varies the views alone; the values of the others are our choice."""
    cell: tuple[str, ...] = ()
    """Settings of the grid to run, such as rrc or batch-256; default: all. In the grid of views any
    combination works, such as mixup+rrc or, for waves, time-stretch+pitch-shift."""
    seeds: tuple[int, ...] = (0,)
    """Each setting is trained once per seed; the figure shows means and deviations."""
    protocol: Literal["heareval", "fast", "robust"] = "heareval"
    """Protocol of scoring, as for `abt eval hear`."""
    out: Path | None = None
    """Folder of the results and of all runs, CELL/seed-S; default: runs/ablation-GRID. All nodes of
    a cluster must see it, local shards and the tasks at the same paths."""
    cpus: int = 1
    """CPUs, and threads, of each run."""
    slots: int | None = None
    """CPUs to use on this machine; default: all."""
    base: Annotated[TrainConfig, arg(name="")]
    """What the runs have in common; the options above set the folder and seed of each."""

    @property
    def folder(self) -> Path:
        """The folder of the results, `out` or its default."""
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
        from .ablation import ablate

        ablate(self)

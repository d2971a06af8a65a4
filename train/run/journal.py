"""Progress line, metrics.jsonl and TensorBoard of a run; the losses are read here only."""

import logging
import math
import resource
import sys
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor
from tqdm import tqdm

from audio_barlow_twins.shards.base.errors import UserError

from ..step.ranks import AgreedError
from ..step.trainer import Trainer
from .folder import RunFolder
from .look import effective_rank, keep_correlation, look_steps, name_collapse
from .summary import share_fields

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from .probe import Probe

STALL_STEPS = 20
"""Steps after the first line that are watched before a run may fail for waiting."""

log = logging.getLogger(__name__)


class Journal:
    """Note the steps of a run; the first process writes, the others agree with it.

    Args:
        trainer: whose steps are noted.
        folder: where to; None in every process but the first.
    """

    def __init__(self, trainer: Trainer, folder: RunFolder | None) -> None:
        self.trainer, self.folder = trainer, folder
        self.losses: list[Tensor] = []
        config = trainer.config
        self.probe: Probe | None = None
        trainer.ranks.from_first(self._open_probe)
        self.looks = look_steps(trainer.total_steps, trainer.steps_per_epoch, config.look_epochs)
        self.signal = 0
        self.stall = _Stall(trainer.config.max_stall)
        self.board = _tensorboard(folder, trainer.step) if folder else None
        self.bar = tqdm(
            total=trainer.total_steps, initial=trainer.step, unit="step", disable=not folder
        )

    def __enter__(self) -> Self:
        self.trainer.clock.mark("logging")
        self.trainer.clock.lap()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.board:
            self.board.close()

    def add(self, losses: Tensor) -> None:
        """Take the losses of one step, float32 [3] on the device."""
        self.losses.append(losses)
        self.bar.update()

    def write(self, signal: int = 0) -> None:
        """Write a line for the steps since the last one; all processes must call it.

        Args:
            signal: number of the signal that asks this process to stop; `self.signal` is then
                what any of the processes got.

        Raises:
            AgreedError: the run has diverged.
        """
        trainer = self.trainer
        loss, on_diagonal, off_diagonal = torch.stack(self.losses).mean(0).tolist()
        if not math.isfinite(loss):
            raise AgreedError(
                f"the loss is {loss} at step {trainer.step}: the run has diverged; begin anew "
                "with lower --optimiser.lr-weights and --optimiser.lr-biases"
            )
        trainer.clock.mark("logging")
        seen = self._look()
        trainer.clock.mark("looks")
        seconds, shares = trainer.clock.lap()
        agreed, wait = trainer.ranks.largest([float(signal), shares["waiting for data"]])
        self.signal = int(agreed)
        self.stall.add(len(self.losses), seconds, wait)
        progress = {
            "epoch": trainer.step / trainer.steps_per_epoch,
            "loss": loss,
            "on_diagonal": on_diagonal,
            "off_diagonal_weighted": trainer.config.lambda_ * off_diagonal,
            "lr": trainer.optimiser.param_groups[0]["lr"],
            "clips_per_s": len(self.losses) * trainer.config.batch / seconds,
            "seconds": seconds,
            "workers": trainer.ranks.world,
            "longest_wait": round(wait, 5),
        }
        metrics = progress | _peak_memory(trainer.device) | share_fields(shares) | seen
        self.losses.clear()
        if self.folder:
            self._write(self.folder, metrics)

    @property
    def due(self) -> bool:
        """Tell whether the last step is one after which to look."""
        return self.trainer.step in self.looks

    def _look(self) -> dict[str, float]:
        """Look at what was learnt so far, if it is time; all processes must call it."""
        trainer = self.trainer
        if not self.due or trainer.latest is None:
            return {}
        correlation, mine = trainer.latest
        embeddings = trainer.ranks.gather(mine.float(), trainer.config.batch)
        if not self.folder:
            return {}
        rank = effective_rank(embeddings)
        keep_correlation(self.folder.path, trainer.step, correlation)
        if collapse := name_collapse(rank):
            log.warning("step %d: %s", trainer.step, collapse)
        scores = self.probe.scores(trainer.checkpoint()) if self.probe else {}
        return {"effective_rank": rank} | scores

    def _open_probe(self) -> None:
        """Read the tasks of the probe, if there are any."""
        config = self.trainer.config
        if not config.probe_tasks:
            return
        try:
            from .probe import Probe
        except ImportError as error:
            raise UserError(
                f"--probe-tasks needs {error.name}: `pip install 'audio-barlow-twins[eval]'`"
            ) from error
        self.probe = Probe(
            config.probe_tasks, config.probe, self.trainer.checkpoint(), self.trainer.device
        )

    def _write(self, folder: RunFolder, metrics: dict[str, float]) -> None:
        folder.write(self.trainer.step, **metrics)
        if self.board:
            for name, value in metrics.items():
                self.board.add_scalar(name, value, self.trainer.step)
        self.bar.set_postfix_str(
            f"loss {metrics['loss']:.2f}, lr {metrics['lr']:.3g}, "
            f"{metrics['clips_per_s']:.0f} clips/s, wait {100 * metrics['longest_wait']:.1f} %"
        )


class _Stall:
    """Watch how much of the time goes by waiting, from the second line on.

    Args:
        limit: largest share that is allowed.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.lines = self.steps = 0
        self.seconds = self.waited = 0.0

    def add(self, steps: int, seconds: float, wait: float) -> None:
        """Count a line's steps, its seconds and the share of them that was waited."""
        self.lines += 1
        if self.lines > 1:  # the first one holds what happens once: compiling, the first reads
            self.steps += steps
            self.seconds += seconds
            self.waited += wait * seconds

    def error(self, step: int) -> str:
        """Say that too much of the time went by waiting, over STALL_STEPS steps or more, or ""."""
        if self.steps < STALL_STEPS or self.waited <= self.limit * self.seconds:
            return ""
        return (
            f"{100 * self.waited / self.seconds:.1f} % of the last {self.steps} steps went by "
            f"waiting for data, --max-stall allows {100 * self.limit:.3g} %; saved at step "
            f"{step}: read faster (--reader-threads, a local disk), then go on with --resume"
        )


def _peak_memory(device: torch.device) -> dict[str, float]:
    """Return the most memory that this process has held so far."""
    if device.type == "cuda":
        return {"peak_device_gb": torch.cuda.max_memory_allocated(device) / 1e9}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak_host_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}


def _tensorboard(folder: RunFolder, step: int) -> "SummaryWriter | None":
    """Open the events; those of steps after `step` are dropped, they are taken again."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.warning("no TensorBoard events: install tensorboard (extra `train`)")
        return None
    return SummaryWriter(str(folder.path), purge_step=step + 1)

"""`python -m train PRESET`: take the steps that are missing, log, save, stop cleanly."""

import logging
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Self

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from shards.cli import UserError, say
from shards.form import logmel_form
from shards.shardset import open_shards
from train.config import TrainConfig
from train.loop import Trainer
from train.presets import PRESETS
from train.run import RunFolder
from train.summary import draw_curve, share_fields, summarise

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)


def main() -> None:
    """Parse the command line and train."""
    config = tyro.extras.overridable_config_cli(
        PRESETS,
        prog="python -m train",
        description="Pre-train an encoder; every number of a preset can be overridden.",
    )
    train(config)


def train(config: TrainConfig) -> None:
    """Take the steps of a run that are missing and print its summary.

    Raises:
        UserError: the shards or the run folder do not fit the config.
    """
    shard_set = open_shards(config.shards, logmel_form(config.front_end))
    folder = RunFolder(config)
    trainer = Trainer(config, shard_set)
    if folder.checkpoint:
        trainer.restore(folder.checkpoint)
    log.info(
        "%s: %d clips, %d steps of %d, %d to go, on %s in %s", config.run, len(shard_set),
        trainer.total_steps, config.batch, trainer.total_steps - trainer.step, trainer.device,
        "bf16" if trainer.bf16 else "float32",
    )  # fmt: skip
    stopped_by = _steps(trainer, folder) if trainer.step < trainer.total_steps else None
    draw_curve(folder.path)
    if stopped_by:
        say(
            f"stopped by {stopped_by.name} at step {trainer.step} of {trainer.total_steps}, saved; "
            f"go on with the same command and --resume"
        )
        sys.exit(128 + stopped_by)
    say(summarise(folder.path))


def _steps(trainer: Trainer, folder: RunFolder) -> signal.Signals | None:
    """Run the loop; return the signal that ended it early, after saving."""
    saved_at = time.monotonic()
    with _stop_signals() as stopped_by, Logger(trainer, folder) as logger:
        for batch in trainer.batches():
            logger.add(trainer.take_step(batch))
            stop, last = stopped_by(), trainer.step == trainer.total_steps
            if stop or last or time.monotonic() - saved_at > trainer.config.checkpoint_every_s:
                logger.flush()
                with trainer.clock.part("logging"):
                    folder.save(trainer.checkpoint())
                saved_at = time.monotonic()
            if stop:
                return stop
    return None


@contextmanager
def _stop_signals() -> Iterator[Callable[[], signal.Signals | None]]:
    """Note SIGTERM and SIGINT instead of dying of them, so that the step can be finished."""
    caught: list[signal.Signals] = []

    def note(number: int, frame: FrameType | None) -> None:
        if caught:  # asked twice: stop at once
            raise KeyboardInterrupt
        caught.append(signal.Signals(number))

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: caught[0] if caught else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Logger:
    """Progress line, metrics.jsonl and TensorBoard; the losses are read from the device here only.

    Args:
        trainer: whose steps are logged.
        folder: where to.
    """

    def __init__(self, trainer: Trainer, folder: RunFolder) -> None:
        self.trainer, self.folder = trainer, folder
        self.losses: list[Tensor] = []
        self.board = _tensorboard(folder, trainer.step)
        self.bar = tqdm(total=trainer.total_steps, initial=trainer.step, unit="step")

    def __enter__(self) -> Self:
        self.trainer.clock.lap()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.board:
            self.board.close()

    def add(self, losses: Tensor) -> None:
        """Take the losses of one step, float32 [3] on the device; log every so many steps."""
        self.losses.append(losses)
        self.bar.update()
        if self.trainer.step % self.trainer.config.log_every == 0:
            self.flush()

    def flush(self) -> None:
        """Write a line for the steps since the last one.

        Raises:
            UserError: the run has diverged.
        """
        if not self.losses:
            return
        with self.trainer.clock.part("logging"):
            loss, on_diagonal, off_diagonal = torch.stack(self.losses).mean(0).tolist()
        if not math.isfinite(loss):
            raise UserError(
                f"the loss is {loss} at step {self.trainer.step}: the run has diverged; begin anew "
                "with lower --optimiser.lr-weights and --optimiser.lr-biases"
            )
        seconds, shares = self.trainer.clock.lap()
        clips_per_s = len(self.losses) * self.trainer.config.batch / seconds
        metrics = {
            "epoch": self.trainer.step / self.trainer.reader.steps_per_epoch,
            "loss": loss,
            "on_diagonal": on_diagonal,
            "off_diagonal_weighted": self.trainer.config.lambda_ * off_diagonal,
            "lr": self.trainer.optimiser.param_groups[0]["lr"],
            "clips_per_s": clips_per_s,
            "seconds": seconds,
        } | share_fields(shares)
        self.folder.write(self.trainer.step, **metrics)
        if self.board:
            for name, value in metrics.items():
                self.board.add_scalar(name, value, self.trainer.step)
        wait = 100 * shares.get("waiting for data", 0.0)
        self.bar.set_postfix_str(
            f"loss {loss:.2f}, lr {metrics['lr']:.3g}, {clips_per_s:.0f} clips/s, wait {wait:.1f} %"
        )
        self.losses.clear()


def _tensorboard(folder: RunFolder, step: int) -> "SummaryWriter | None":
    """Open the events; those of steps after `step` are dropped, they are taken again."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.warning("no TensorBoard events: install tensorboard (extra `train`)")
        return None
    return SummaryWriter(str(folder.path), purge_step=step + 1)

"""A run from start to end: take the remaining steps, log, save, stop cleanly."""

import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor

from audio_barlow_twins.model.checkpoint import Checkpoint
from audio_barlow_twins.shards.base.cli import say
from audio_barlow_twins.shards.base.device import repeatable
from audio_barlow_twins.shards.base.errors import UserError

from ..config import TrainConfig
from ..step.agree import Stall, agree
from ..step.ranks import AgreedError, Ranks, joined_ranks
from ..step.setup import open_set, step_kind
from ..step.trainer import Trainer
from .evaluation import Evaluation
from .folder import STOP, RunFolder
from .journal import Journal, peak_memory
from .pictures import draw_run
from .preflight import measure
from .saving import Saver
from .summary import share_fields, summarise

log = logging.getLogger(__name__)


def train(config: TrainConfig) -> None:
    """Take the remaining steps of a run and print its summary.

    Under torchrun or Ray Train every process calls it; rank 0 logs, saves and prints.

    Raises:
        UserError: the shards or the run folder do not fit the config.
    """
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0:
        config = replace(config, resume=True)  # torchrun has replaced a lost process
    with joined_ranks(config.device, config.batch) as ranks:
        try:
            with repeatable(config.deterministic and ranks.device.type == "cuda"):
                stopped_by = _train(config, ranks)
        except AgreedError:
            if ranks.first:
                raise
            sys.exit(2)
    if stopped_by:
        sys.exit(128 + stopped_by)


def _train(config: TrainConfig, ranks: Ranks) -> int:
    """Train in one of the processes; return the number of the signal that stopped them, or 0."""
    shard_set = ranks.from_first(lambda: open_set(config))
    folder: RunFolder | None = None

    def open_run() -> Checkpoint | None:
        nonlocal folder
        step_kind(config.step, ranks)
        for task in config.probe_tasks:
            if not task.is_dir():
                raise UserError(f"--probe-tasks: {task} is not a task folder; see `abt eval tasks`")
        folder = RunFolder(config)
        return folder.checkpoint

    checkpoint = ranks.from_first(open_run)
    trainer = Trainer(config, shard_set, ranks, checkpoint.sizes if checkpoint else None)
    with trainer.reader:
        if checkpoint:
            trainer.restore(checkpoint)
        if folder:
            log.info("%s", _headline(trainer))
        if config.preflight and trainer.step < trainer.total_steps:
            found = measure(trainer)  # all processes together
            if folder:
                log.info("%s", found)
        stopped_by = _steps(trainer, folder) if trainer.step < trainer.total_steps else 0
    if folder:
        draw_run(folder.path)
        say(_stopped(trainer, stopped_by) if stopped_by else summarise(folder.path))
    return stopped_by


def _headline(trainer: Trainer) -> str:
    config = trainer.config
    by = f" by {trainer.ranks.world} processes" if trainer.ranks.world > 1 else ""
    return (
        f"{config.run}: {len(trainer.shard_set)} clips, {trainer.total_steps} steps of "
        f"{config.batch}{by}, {trainer.total_steps - trainer.step} to go, on {trainer.device.type} "
        f"in {'bf16' if trainer.bf16 else 'float32'}"
    )


def _stopped(trainer: Trainer, number: int) -> str:
    return (
        f"stopped by {signal.Signals(number).name} at step {trainer.step} of "
        f"{trainer.total_steps}, saved; go on with the same command and --resume"
    )


def _steps(trainer: Trainer, folder: RunFolder | None) -> int:
    """Run the loop; return the number of the signal that ended it early, after saving, or 0.

    A single process acts on a signal after any step. Several must stop at the same step, so they
    act on it where they write a line, since they wait for each other there anyway.
    """
    config, alone = trainer.config, trainer.ranks.world == 1
    losses, stall = list[Tensor](), Stall(config.max_stall)
    evaluation = Evaluation(trainer, folder.path if folder else None)
    with (
        _stop_signals(config.run, patient=not alone) as caught,
        Journal(folder, trainer.step, trainer.total_steps) as journal,
        Saver(folder.save if folder else None, trainer.device, config.checkpoint_every_s) as saver,
    ):
        trainer.clock.mark("logging")
        trainer.clock.lap()
        for inputs in trainer.batches():
            losses.append(trainer.take_step(inputs))
            journal.bar.update()
            at_line = evaluation.due or trainer.step % config.log_every == 0
            if not (at_line or (alone and (caught() or saver.is_late))):
                continue
            line = _line(trainer, losses, evaluation)
            agreed = agree(trainer.ranks, caught(), line["share_waiting_for_data"])
            journal.write(trainer.step, line | {"longest_wait": round(agreed.wait, 5)})
            stall.add(len(losses), line["seconds"], agreed.wait)
            losses.clear()
            trainer.clock.mark("logging")
            ends = agreed.stop or stall.is_over or trainer.step == trainer.total_steps
            if ends or saver.is_late:
                saver.save(trainer.checkpoint())
            if ends:
                saver.wait()  # only then it may be said that the run is saved
            trainer.clock.mark("saving")
            stall.check(trainer.step)
            if agreed.stop:
                return agreed.stop
    return 0


def _line(trainer: Trainer, losses: list[Tensor], evaluation: Evaluation) -> dict[str, float]:
    """Return the metrics of the steps since the last line; all processes must call it.

    Raises:
        AgreedError: the run has diverged.
    """
    loss, on_diagonal, off_diagonal = torch.stack(losses).mean(0).tolist()
    if not math.isfinite(loss):
        raise AgreedError(
            f"the loss is {loss} at step {trainer.step}: the run has diverged; start again "
            "with lower --optimiser.lr-weights and --optimiser.lr-biases"
        )
    trainer.clock.mark("logging")
    seen = evaluation.look()
    trainer.clock.mark("looks")
    seconds, shares = trainer.clock.lap()
    return {
        "epoch": trainer.step / trainer.steps_per_epoch,
        "loss": loss,
        "on_diagonal": on_diagonal,
        "off_diagonal_weighted": trainer.config.lambda_ * off_diagonal,
        "lr": float(trainer.optimiser.param_groups[0]["lr"]),
        "clips_per_s": len(losses) * trainer.config.batch / seconds,
        "seconds": seconds,
        "workers": trainer.ranks.world,
        **peak_memory(trainer.device),
        **share_fields(shares),
        **seen,
    }


@contextmanager
def _stop_signals(run: Path, patient: bool) -> Iterator[Callable[[], int]]:
    """Catch SIGTERM and SIGINT, so that the step can be finished; yield what was caught, or 0.

    Args:
        run: folder of the run, in which the driver of Ray Train writes its STOP file.
        patient: survive a second signal, too, as the parent process may forward what the terminal
            has already sent to all.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # in a worker of Ray Train
        yield lambda: _asked_by_driver(run / STOP)
        return

    def note(number: int, frame: FrameType | None) -> None:
        if caught and not patient:  # asked twice: stop at once
            raise KeyboardInterrupt
        caught.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: caught[0] if caught else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _asked_by_driver(stop: Path) -> int:
    try:
        return int(stop.read_text() or 0)  # empty while it is being written
    except FileNotFoundError:
        return 0

"""Start the processes that train together: on this machine, or on a Ray cluster."""

import logging
import os
import platform
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from audio_barlow_twins.shards.base.cli import say
from audio_barlow_twins.shards.base.device import on_gpu
from audio_barlow_twins.shards.base.errors import UserError

from ..config import TrainConfig
from ..step.ranks import AgreedError
from ..step.setup import absolute
from .folder import STOP, RunFolder
from .session import train

Train = Callable[[TrainConfig], None]
NOTES = ".ray-"
"""Prefix of the folder in the run folder in which Ray Train keeps its state while it runs."""


def start(config: TrainConfig) -> None:
    """Train in this process, or in `config.workers` processes."""
    if config.workers > 1 and "WORLD_SIZE" not in os.environ:
        launch(train, config)
    else:
        train(config)


def launch(train: Train, config: TrainConfig) -> None:
    """Run `train` in `config.workers` processes, restarted from the last checkpoint if one is lost.

    `train` must be importable, as every process calls it.

    Raises:
        UserError: the run cannot start, or more workers were lost than `config.restarts` allows.
    """
    RunFolder(config)  # raises before processes are started
    config = replace(config, resume=True)  # for restarts
    start = _on_the_cluster if os.environ.get("RAY_ADDRESS") else _on_this_machine
    code, error = start(train, config)
    if error:
        raise UserError(error)
    if code:
        sys.exit(code)


def _on_this_machine(train: Train, config: TrainConfig) -> tuple[int, str]:
    threads = max(1, (os.cpu_count() or 1) // config.workers)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=config.workers,
        run_id=str(os.getpid()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=config.restarts,
    )
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    try:
        return elastic_launch(settings, work)(train, config)[0]
    except SignalException as stopped:  # the workers have saved
        return 128 + int(stopped.sigval), ""
    except ChildFailedError as lost:
        rank, failure = lost.get_first_failure()
        raise UserError(
            f"worker {rank} ended with code {failure.exitcode}, and --restarts {config.restarts} "
            "are used up; see the messages above, then resume from the last checkpoint by --resume"
        ) from lost


def _on_the_cluster(train: Train, config: TrainConfig) -> tuple[int, str]:
    try:
        from audio_barlow_twins.shards.cluster.fan_out import cluster
        from audio_barlow_twins.shards.cluster.workers import (
            SignalledError,
            Team,
            count_gpus,
            run_workers,
        )
    except ImportError as error:
        raise UserError(
            f"RAY_ADDRESS is set, but {error.name} is not installed: "
            "`pip install 'audio-barlow-twins[cluster]'`, or unset it to train here"
        ) from error
    _remove_notes(config.run)
    with cluster(), TemporaryDirectory(prefix=NOTES, dir=config.run) as notes:
        use_gpu = on_gpu(config.device, count_gpus())
        scratch = Path(notes).absolute()
        team = Team(
            workers=config.workers, restarts=config.restarts, use_gpu=use_gpu, scratch=scratch
        )
        config = replace(
            config,
            run=config.run.absolute(),
            shards=absolute(config.shards),
            device="cuda" if use_gpu else "cpu",
        )
        stop = config.run / STOP
        try:
            return run_workers(
                work_on_a_node, (train, config, scratch), team, lambda n: stop.write_text(str(n))
            )
        except SignalledError as stopped:
            name = signal.Signals(stopped.number).name
            say(f"stopped by {name}; resume from the last checkpoint by the same command, --resume")
            return 128 + stopped.number, ""
        finally:
            stop.unlink(missing_ok=True)


def _remove_notes(run: Path) -> None:
    """Delete what a killed driver has left."""
    (run / STOP).unlink(missing_ok=True)
    for folder in run.glob(f"{NOTES}*"):
        rmtree(folder)


def work_on_a_node(train: Train, config: TrainConfig, shared: Path) -> tuple[int, str]:
    """Train in one process of a cluster.

    Raises:
        UserError: this node does not see the run folder.
    """
    if not shared.exists():
        raise UserError(
            f"node {platform.node()} does not see {config.run} as the driver does; the run folder "
            "must be at the same path on all nodes, on storage that they share: name another --run"
        )
    try:
        return work(train, config)
    except SystemExit as stopped:  # the driver asked for it and reads the code
        return int(stopped.code or 0), ""


def work(train: Train, config: TrainConfig) -> tuple[int, str]:
    """Train in one process; return its exit code, and an error that a restart would not fix."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    try:
        train(config)
    except AgreedError as error:
        return 2, str(error)
    except SystemExit as end:
        code = int(end.code or 0)
        if code > 128:  # by a signal: the stopping launcher reads no results
            raise
        return code, ""
    return 0, ""

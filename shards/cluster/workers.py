"""Run distributed workers on a Ray cluster; Ray Train connects, restarts and rescales them."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import TextIOBase
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar
from uuid import uuid4

import ray
from ray.exceptions import RayTaskError

from ..base.errors import UserError
from .fan_out import CANCEL_S, Shared, host

LISTEN_S = 0.3
"""Interval at which the workers' output and our own signals are checked."""
STOP_S = 120.0
"""Longest wait for workers that were asked to stop."""
SPEAK_S = 0.5
"""Least interval between updates of a progress bar, which writes ten times a second."""

T = TypeVar("T")


class SignalledError(Exception):
    """Report that workers were asked to stop, did not, and are gone."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass(frozen=True, kw_only=True)
class Team:
    """How many workers to run, and what each of them gets."""

    workers: int
    """Number of workers once the cluster has room for all; it starts with room for one."""
    restarts: int
    """How often all workers are restarted after one was lost."""
    use_gpu: bool
    """A GPU for each, else an equal share of the CPUs."""
    scratch: Path
    """Empty folder that all nodes share, for Ray's own files."""


class _Messages:
    """Output of the workers, kept until the driver collects it."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        self.reason = ""

    def say(self, stream: str, text: str) -> None:
        self.said.append((stream, text))

    def give_up(self, reason: str) -> None:
        self.reason = self.reason or reason

    def listen(self) -> tuple[list[tuple[str, str]], str]:
        said, self.said = self.said, []
        return said, self.reason


class _Voice(TextIOBase):
    """A text stream in a worker whose text the driver prints."""

    def __init__(self, messages: Shared, stream: str) -> None:
        self.messages, self.stream = messages, stream
        self.text, self.spoke_at = "", 0.0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        if "\n" in text or time.monotonic() - self.spoke_at > SPEAK_S:
            self.speak()
        return len(text)

    def speak(self) -> None:
        if self.text:
            self.messages.call(_Messages.say, self.stream, self.text)
        self.text, self.spoke_at = "", time.monotonic()


def count_gpus() -> int:
    """Return the number of GPUs of the joined cluster."""
    return int(ray.cluster_resources().get("GPU", 0))


def run_workers(
    function: Callable[..., T],
    arguments: tuple[Any, ...],
    team: Team,
    ask_to_stop: Callable[[int], object],
) -> T:
    """Run `function` in workers that Ray Train connects; return what the first one returned.

    Must be called inside a `cluster` block. It is elastic: it starts with as many workers as fit,
    grows when nodes join (Ray checks once a minute) and goes on with fewer when one is lost. Each
    change restarts all workers, so `function` must resume from what it has saved. The stdout and
    stderr of the first worker are printed here.

    Args:
        function: importable; a `UserError` in any worker ends the run.
        ask_to_stop: called with SIGTERM or SIGINT; `function` should then return within STOP_S.

    Raises:
        UserError: a worker raised it, or workers were lost more often than `team.restarts`.
        SignalledError: the workers did not stop in time; what they had not saved is lost.
    """
    messages = host(f"messages of {uuid4().hex}", _Messages)
    nodes = [int(n["Resources"].get("CPU", 0)) for n in ray.nodes() if n["Alive"]]
    cpus = 1 if team.use_gpu else cpus_each(nodes, team.workers)
    with _noting_signals() as caught:
        fit: Any = ray.remote(_fit).options(
            num_cpus=0, max_retries=team.restarts, retry_exceptions=False
        )
        reference = fit.remote(function, arguments, team, cpus, messages)
        try:
            _listen(reference, messages, caught, ask_to_stop)
            return ray.get(reference)
        except RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise error.as_instanceof_cause() from None  # a bug: keep the traceback
        finally:
            _end(reference)


def cpus_each(nodes: list[int], workers: int) -> int:
    """Return the largest number of CPUs that every worker can have; 1 if not all have room.

    `nodes` are the CPUs of each node. Raises UserError if there is no CPU at all.
    """
    if not any(nodes):
        raise UserError("the Ray cluster has no CPU to work with; add nodes, see `ray status`")
    fitting = (n for n in range(max(nodes), 0, -1) if sum(cpus // n for cpus in nodes) >= workers)
    return next(fitting, 1)


@contextmanager
def _noting_signals() -> Iterator[list[int]]:
    """Yield the list of SIGTERM and SIGINT caught so far; a second one interrupts."""
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(
    reference: ray.ObjectRef, messages: Shared, caught: list[int], ask: Callable[[int], object]
) -> None:
    """Print the workers' output until they end; after a signal, ask them to stop."""
    asked_at = 0.0
    while not ray.wait([reference], timeout=LISTEN_S)[0]:
        _pass_on(messages)
        if caught and not asked_at:
            ask(caught[0])
            asked_at = time.monotonic()
        if asked_at and time.monotonic() - asked_at > STOP_S:
            raise SignalledError(caught[0])
    _pass_on(messages)


def _pass_on(messages: Shared) -> None:
    """Print the workers' output; raise the UserError of one that has given up."""
    said, reason = messages.call(_Messages.listen)
    for stream, text in said:
        getattr(sys, stream).write(text)
        getattr(sys, stream).flush()
    if reason:
        raise UserError(reason)


def _end(reference: ray.ObjectRef) -> None:
    """Stop the workers: Ray Train does it when its driver is cancelled."""
    if not ray.wait([reference], timeout=0)[0]:
        ray.cancel(reference)
        ray.wait([reference], timeout=CANCEL_S)


def _fit(
    function: Callable[..., T], arguments: tuple[Any, ...], team: Team, cpus: int, messages: Shared
) -> T:
    """Run Ray Train, in a task of its own because it logs a lot and handles SIGINT itself."""
    import ray.train.torch

    api: Any = ray.train  # its second version, which ray.train picks when it is imported
    torch_api: Any = ray.train.torch

    def loop() -> T:
        return _speaking(function, arguments, messages, api.get_context().get_world_rank() == 0)

    resources = {"CPU": float(cpus)} | ({"GPU": 1.0} if team.use_gpu else {})
    trainer = torch_api.TorchTrainer(
        loop,
        scaling_config=api.ScalingConfig(
            num_workers=(1, team.workers), use_gpu=team.use_gpu, resources_per_worker=resources
        ),
        run_config=api.RunConfig(
            storage_path=str(team.scratch),
            callbacks=[_telling_losses(team.restarts, messages)],
            failure_config=api.FailureConfig(
                max_failures=team.restarts, controller_failure_limit=team.restarts
            ),
        ),
    )
    try:
        return trainer.fit().return_value
    except api.WorkerGroupError as error:
        what = _explain(error.worker_failures)[0]
    except api.ControllerError as error:
        what = f"Ray could not start the workers: {_last_line(error)}"
    except SystemExit:  # what Ray Train raises when interrupted; its workers have ended
        raise KeyboardInterrupt from None
    raise UserError(
        f"{what}, and --restarts {team.restarts} are used up; what was saved is kept: see the "
        "messages above, then go on with --resume"
    )


def _telling_losses(restarts: int, messages: Shared) -> Any:
    """Return a Ray Train callback that reports every lost worker to the driver."""
    import ray.train

    api: Any = ray.train

    class Losses(api.UserCallback):
        count = 0

        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Any]) -> None:
            self.count += 1
            what, details = _explain(worker_exceptions)
            if self.count <= restarts:
                what += "; all start again from the last checkpoint"
            messages.call(_Messages.say, "stderr", f"\n{details}{what}\n")

    return Losses()


def _explain(failures: dict[int, Any]) -> tuple[str, str]:
    """Return in one line why workers ended, and the traceback if it was a bug.

    If one is lost the others fail as well, because it does not answer.
    """
    lost = [rank for rank, error in failures.items() if hasattr(error, "health_check_failure")]
    if lost:
        return f"worker {min(lost)} was lost", ""
    rank, error = min(failures.items())
    return f"worker {rank} failed with {_last_line(error)}", f"{str(error).rstrip()}\n"


def _last_line(error: Exception) -> str:
    return str(error).strip().rpartition("\n")[2].strip()


def _speaking(
    function: Callable[..., T], arguments: tuple[Any, ...], messages: Shared, aloud: bool
) -> T:
    """Run a worker's function; send a UserError, and if `aloud` all output, to the driver."""
    voices = [_Voice(messages, stream) for stream in ("stdout", "stderr")] if aloud else []
    with ExitStack() as stack:
        for voice, redirect in zip(voices, (redirect_stdout, redirect_stderr), strict=False):
            stack.enter_context(redirect(voice))
            stack.callback(voice.speak)
        try:
            return function(*arguments)
        except UserError as error:
            messages.call(_Messages.give_up, str(error))
            raise

"""Fan work out over Ray: idempotent tasks, a bounded window, a progress bar, clean interruption."""

import logging
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

import ray
from ray.exceptions import RayActorError, RayTaskError, WorkerCrashedError

import audio_barlow_twins

from ..base.errors import UserError
from ..base.progress import Progress
from .counts import NAMESPACE, Counts, reporting

CANCEL_S = 15
"""Longest wait for cancelled tasks to end."""
CANCEL_AGAIN_S = 5
"""Wait after which those that have not ended are cancelled again."""

Task = TypeVar("Task")
P = ParamSpec("P")
Answer = TypeVar("Answer")


class Tally(Protocol):
    """What a finished task reports for the progress bar."""

    @property
    def clips(self) -> int: ...

    @property
    def outcomes(self) -> dict[str, int]:
        """Clips by outcome, such as ok or bad_audio."""


Result = TypeVar("Result", bound=Tally)


@contextmanager
def cluster(slots: int | None = None) -> Iterator[int]:
    """Join the Ray cluster of RAY_ADDRESS, or start a local one; yield its number of CPUs.

    A local one has `slots` CPUs, by default all of this machine. Inside another such block, or a
    Ray task, the cluster that is there is used. The nodes of a RAY_ADDRESS need our dependencies,
    and credentials for remote places, but no checkout.
    """
    if ray.is_initialized():
        yield _cpus()
        return
    address = os.environ.get("RAY_ADDRESS")
    # By default Ray retries a task that runs out of memory without end.
    os.environ.setdefault("RAY_task_oom_retries", "3")
    # A driver that waits for its first workers hangs if one of them dies while it starts
    # (ray-project/ray issue 40131); tasks start the workers that they need.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    if address:
        _require_answer(address)
    try:
        ray.init(
            address=address or "local",
            num_cpus=None if address else slots,
            include_dashboard=None if address else False,
            logging_level=logging.ERROR,
            log_to_driver=False,
            runtime_env=_our_code() if address else None,
        )
    except ConnectionError as error:
        raise UserError(
            f"the Ray cluster at RAY_ADDRESS={address} refuses us; if it was started with "
            "a token, set RAY_AUTH_MODE=token and copy its ~/.ray/auth_token (docs/cluster.md)"
        ) from error
    try:
        yield _cpus()
    finally:
        ray.shutdown()


def _cpus() -> int:
    return int(ray.cluster_resources().get("CPU", 1))


def _our_code() -> dict[str, Any] | None:
    """Tell Ray to ship our package to its nodes; `ray job submit` has shipped it already."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        return None
    folder = Path(audio_barlow_twins.__file__).parent
    return {"py_modules": [str(folder)], "excludes": ["__pycache__", "ingest/sources/demo/audio"]}


def _require_answer(address: str) -> None:
    """Raise UserError if no cluster answers; Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():  # such as auto, which Ray looks up itself
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(
            f"no Ray cluster answers at RAY_ADDRESS={address} ({error}); start it with "
            "`ray start --head`, or unset RAY_ADDRESS to use this machine alone"
        ) from error


class _Queue(Generic[Task]):
    """Waiting tasks: those in `first`, then the given ones, read only when they are taken."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.first, self._rest = deque[Task](), iter(tasks)

    def take(self, most: int) -> list[Task]:
        chosen = [self.first.popleft() for _ in range(min(most, len(self.first)))]
        return [*chosen, *islice(self._rest, most - len(chosen))]


def fan_out(
    work: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    total_clips: int,
    title: str = "",
    slots: int | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    describe: Callable[[], str] | None = None,
    follow: Callable[[Result], Sequence[Task]] = lambda result: (),
) -> Iterator[Result]:
    """Run `work` on every task, at most two tasks a slot in flight; yield results as they finish.

    A task whose worker or node is lost runs again elsewhere, so `work` must be idempotent. An
    exception in it stops the run and is raised here. Closing the iterator cancels what is running.

    Args:
        work: importable function of one argument.
        tasks: consumed as slots become free, so a long list costs nothing.
        total_clips, title: of the progress bar, which `report_progress` in a task moves.
        slots: CPUs of a local Ray; default: all.
        num_cpus, num_gpus: what a task takes; less than 1 CPU if it mostly waits.
        describe: called once a second for a text beside the progress bar.
        follow: returns the tasks that a result makes possible; they go before the others.
    """
    queue = _Queue(tasks)
    with (
        cluster(slots),
        _showing(total_clips, title, describe) as board,
        closing(_finished(work, queue, board.counts.name, num_cpus, num_gpus)) as finished,
    ):
        for ended in finished:
            for number, reference in ended:
                result = _get(reference)
                board.count(number, result)
                queue.first.extend(follow(result))
                yield result
            board.show_each_second()


def _finished(
    work: Callable[[Task], Result],
    queue: _Queue[Task],
    counts: str,
    num_cpus: float,
    num_gpus: float,
) -> Generator[list[tuple[int, ray.ObjectRef]], None, None]:
    """Keep two tasks a slot in flight; yield those that have ended, at least every second.

    Each comes with its number, under which it reports to the `Counts` of that name.
    """
    running: dict[ray.ObjectRef, int] = {}
    numbers = count()
    # SPREAD: otherwise a task that a node gave back may return to that node forever.
    resources = {"num_cpus": num_cpus, "num_gpus": num_gpus}
    remote: Any = ray.remote(_run).options(
        **resources, name=work.__name__, max_retries=5, scheduling_strategy="SPREAD"
    )
    try:
        while True:
            at_once = _cpus() / num_cpus  # nodes come and go
            if num_gpus:
                at_once = min(at_once, ray.cluster_resources().get("GPU", 0) / num_gpus)
            window = 2 * max(1, int(at_once))
            for task in queue.take(max(0, window - len(running))):
                number = next(numbers)
                running[remote.remote(work, task, counts, number)] = number
            if not running:
                return
            done, _ = ray.wait([*running], timeout=1.0)
            yield [(running.pop(reference), reference) for reference in done]
    finally:
        _cancel([*running])


def _run(work: Callable[[Task], Result], task: Task, counts: str, number: int) -> Result:
    with reporting(counts, number):
        return work(task)


@contextmanager
def _showing(
    total_clips: int, title: str, describe: Callable[[], str] | None
) -> Iterator["_Board"]:
    with Progress(total_clips, "clip", title) as progress, Counts() as counts:
        board = _Board(progress, counts, describe)
        yield board
        board.show()


class _Board:
    """What the progress bar shows: clips, and beside it outcomes and what the caller describes."""

    def __init__(
        self, progress: Progress, counts: Counts, describe: Callable[[], str] | None
    ) -> None:
        self.progress, self.counts, self.describe = progress, counts, describe
        self.outcomes = Counter[str]()
        self.clips, self.ended = 0, set[int]()
        self.going: dict[int, int] = {}
        """Clips that tasks have done which have not ended, as far as they have said."""
        self.shown_at = time.monotonic()

    def count(self, number: int, result: Tally) -> None:
        """Let the result of a task take the place of what the task has said."""
        self.outcomes.update(result.outcomes)
        self.clips += result.clips
        self.ended.add(number)
        self.going.pop(number, None)
        self.move()

    def move(self) -> None:
        self.progress.move_to(self.clips + sum(self.going.values()))

    def show_each_second(self) -> None:
        if time.monotonic() - self.shown_at >= 1:
            self.shown_at = time.monotonic()
            told = self.counts.ask()
            self.going |= {task: n for task, n in told.items() if task not in self.ended}
            self.move()
            self.show()

    def show(self) -> None:
        parts = [f"{outcome}={n}" for outcome, n in self.outcomes.items()]
        if self.describe and (text := self.describe()):
            parts.append(text)
        self.progress.show(", ".join(parts))


def _cancel(references: list[ray.ObjectRef]) -> None:
    """Cancel tasks on a cluster that outlives this run; a cluster of our own ends with them.

    Not by force: the driver crashes if a task ends while it is being killed (Ray 2.60, check
    failed in task_manager.cc). A task that is just starting may miss it, so it is asked again.
    Tasks that do not end in time are killed when the driver exits.
    """
    if not references or not ray.is_initialized() or "RAY_ADDRESS" not in os.environ:
        return
    for _ in range(CANCEL_S // CANCEL_AGAIN_S):
        for reference in references:
            ray.cancel(reference)
        _, references = ray.wait(references, num_returns=len(references), timeout=CANCEL_AGAIN_S)
        if not references:
            return


class Shared:
    """A handle to an object that lives in one process of the cluster; tasks may receive it."""

    def __init__(self, name: str, actor: Any) -> None:
        self.name, self._actor = name, actor

    def call(
        self, method: Callable[Concatenate[Any, P], Answer], *args: P.args, **kwargs: P.kwargs
    ) -> Answer:
        """Call a method of the object there and return the answer; calls run one at a time.

        If its node is lost, the object is made anew and the call repeated. An exception in the
        method is raised here with its own type.

        Raises:
            UserError: the object is gone, because the run that made it has ended.
        """
        try:
            return _get(self._actor.call.remote(method.__name__, args, kwargs))
        except RayActorError as error:
            if error.actor_init_failed:
                raise
            raise UserError(
                f"the {self.name} of the cluster is gone; another run that had started it has "
                "ended: run the same command again"
            ) from error


class _Host:
    def __init__(self, factory: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.held = factory(*args)

    def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return getattr(self.held, method)(*args, **kwargs)


def host(name: str, factory: Callable[..., Any], *args: Any) -> Shared:
    """Make `factory(*args)` in a process of its own, or find the one of that name.

    Must be called inside a `cluster` block. All runs on a cluster share the object, by its name;
    it ends with the run that made it. `factory` must be importable, and able to make the object
    anew after the loss of a node.
    """
    actor = ray.remote(_Host).options(
        name=name,
        namespace=NAMESPACE,
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=-1,
    )
    return Shared(name, actor.remote(factory, args))


def node_address() -> str:
    """Return the address of this machine, as its cluster knows it."""
    return ray.util.get_node_ip_address()


def _get(reference: ray.ObjectRef) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise error.as_instanceof_cause() from None  # a bug: keep the worker's traceback
    except WorkerCrashedError as error:
        raise RuntimeError(
            "a worker died six times on one task, probably for lack of memory; use fewer --slots, "
            "or smaller tasks: --shard-clips of an ingest, --batch of a training"
        ) from error

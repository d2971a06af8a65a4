"""Fan work out over Ray: idempotent tasks, a bounded window, a progress bar, clean interruption."""

import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol, TypeVar

import ray
from ray.exceptions import RayTaskError, WorkerCrashedError
from tqdm import tqdm

from shards.cli import UserError

Task = TypeVar("Task")


class Tally(Protocol):
    """What a finished task reports for the progress bar."""

    @property
    def clips(self) -> int:
        """Clips that were handled."""

    @property
    def outcomes(self) -> dict[str, int]:
        """Clips by outcome, such as ok or bad_audio."""


Result = TypeVar("Result", bound=Tally)


@contextmanager
def cluster(slots: int | None = None) -> Iterator[int]:
    """Join the Ray cluster of RAY_ADDRESS, or start a local one; yield the number of CPU slots.

    Args:
        slots: CPUs of a local Ray; default: all of this machine.
    """
    address = os.environ.get("RAY_ADDRESS")
    # Ray's own answer to a task that dies for lack of memory is to try again for ever.
    os.environ.setdefault("RAY_task_oom_retries", "3")
    # A driver that waits for the first workers waits for ever if one of them dies at its start
    # (ray-project/ray issue 40131); tasks start the workers that they need.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    if address:
        _require_answer(address)
    ray.init(
        address=address or "local",
        num_cpus=None if address else slots,
        include_dashboard=None if address else False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    try:
        yield int(ray.cluster_resources().get("CPU", 1))
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Knock at the cluster's door; Ray itself would wait there for minutes."""
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


def fan_out(
    work: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    total_clips: int,
    slots: int | None = None,
) -> Iterator[Result]:
    """Run `work` on every task, at most two tasks a slot in flight; yield results as they finish.

    `work` must be idempotent: a task whose worker or node is lost runs again elsewhere. An
    exception inside `work` is a bug and stops the run: it is raised here as what it was.

    Args:
        work: importable function of one argument.
        tasks: consumed as slots become free, so a long list costs nothing.
        total_clips: what the progress bar counts up to.
        slots: CPUs of a local Ray; default: all.
    """
    with cluster(slots) as cpus, tqdm(total=total_clips, unit="clip", smoothing=0.05) as bar:
        remote = ray.remote(work).options(num_cpus=1, max_retries=5)
        queue = iter(tasks)
        running: list[ray.ObjectRef] = []
        outcomes = Counter[str]()
        while True:
            for task in islice(queue, 2 * cpus - len(running)):
                running.append(remote.remote(task))
            if not running:
                return
            done, running = ray.wait(running, timeout=1.0)
            for reference in done:
                result = _get(reference)
                outcomes.update(result.outcomes)
                bar.set_postfix(outcomes, refresh=False)
                bar.update(result.clips)
                yield result
            bar.refresh()


def _get(reference: ray.ObjectRef) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise error.as_instanceof_cause() from None  # a bug: keep the worker's traceback
    except WorkerCrashedError as error:
        raise RuntimeError(
            "a worker died six times on one shard, probably for lack of memory; "
            "use fewer --slots or a smaller --shard-clips"
        ) from error

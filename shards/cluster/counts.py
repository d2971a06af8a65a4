"""How much of a task is done while it runs, from any node of the cluster to the driver.

    task ─ report_progress(1) ─▶ a number ─ thread, each second ─▶ actor ◀─ driver, each second

What travels is always "task T has done n": neither a task that runs again after a lost worker nor
a report that is lost on the way spoils the sum. Nobody waits for anybody. The actor is a process,
so a run starts it only once it is `START_S` old; Ray's key-value store would need none, but is not
public.
"""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from ..base.progress import reporting_to

NAMESPACE = "audio-barlow-twins"
REPORT_S = 1.0
"""Time between two reports of a task."""
START_S = 10.0
"""Age of a run from which on its progress is worth a process."""


class Counts:
    """What the tasks of a run have done so far; a context manager for the driver, of its run."""

    def __init__(self) -> None:
        self.name = f"progress-{uuid.uuid4().hex}"
        """By which tasks find the actor, as soon as there is one."""
        self._begun = time.monotonic()
        self._actor: Any = None
        self._asked: ray.ObjectRef | None = None

    def __enter__(self) -> "Counts":
        return self

    def __exit__(self, *error: object) -> None:
        if self._actor is not None and ray.is_initialized():
            ray.kill(self._actor)

    def ask(self) -> dict[int, int]:
        """Return the answer to the last call if it has come: how much which tasks have done."""
        if self._actor is None:
            if time.monotonic() - self._begun < START_S:
                return {}
            options = {"name": self.name, "namespace": NAMESPACE, "num_cpus": 0, "max_restarts": -1}
            self._actor = ray.remote(_Gathered).options(**options).remote()
        found: dict[int, int] = {}
        if self._asked is not None:
            if not ray.wait([self._asked], timeout=0)[0]:
                return {}
            with suppress(RayActorError):  # its node is lost; Ray makes it anew
                found = ray.get(self._asked)
        self._asked = self._actor.take.remote()
        return found


class _Gathered:
    """The latest reports of the tasks that have reported since the driver asked; an actor."""

    def __init__(self) -> None:
        self.done: dict[int, int] = {}

    def tell(self, task: int, done: int) -> None:
        self.done[task] = done

    def take(self) -> dict[int, int]:
        taken, self.done = self.done, {}
        return taken


@contextmanager
def reporting(name: str, task: int) -> Iterator[None]:
    """Pass on to `Counts` of a name what the block says to `report_progress`.

    Args:
        task: the number under which the driver knows the task.
    """
    reporter = _Reporter(name, task)
    with reporting_to(reporter.add):
        try:
            yield
        finally:
            reporter.end()


class _Reporter(Thread):
    """Sends the count of a task, so that the task itself never waits for the cluster."""

    def __init__(self, counts: str, task: int) -> None:
        super().__init__(name="progress", daemon=True)
        self.counts, self.task, self.done = counts, task, 0
        self.ended = Event()

    def add(self, more: int) -> None:
        self.done += more
        if self.ident is None:
            self.start()

    def end(self) -> None:
        self.ended.set()
        if self.ident is not None:
            self.join(REPORT_S)

    def run(self) -> None:
        actor = None
        while not self.ended.wait(REPORT_S):
            # The actor is not there yet, or no longer. What is lost on the way is said again.
            with suppress(ValueError, RayError):
                actor = actor or ray.get_actor(self.counts, NAMESPACE)
                actor.tell.remote(self.task, self.done)

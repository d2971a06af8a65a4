"""Waiting for other processes, alike in all tests."""

import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

HANG_S = 300.0
"""A wait that takes as long has failed. It is no measure of speed: a crowded machine takes less."""

T = TypeVar("T")


def wait_until(
    found: Callable[[], T | None],
    process: "subprocess.Popen[str]",
    told: Callable[[], str] | None = None,
    every_s: float = 0.01,
) -> T:
    """Poll until `found` returns something true, and return it; `process` must run till then.

    `told` says what the process has printed, for the message of a failure; by default its pipes do.
    """
    deadline = time.monotonic() + HANG_S
    while not (what := found()):
        assert process.poll() is None, told() if told else process.communicate()
        assert time.monotonic() < deadline, told() if told else "nothing came of it"
        time.sleep(every_s)
    return what

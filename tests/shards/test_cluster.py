"""Work on a real local Ray: a bounded window, errors as they were, no cluster left behind."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from shards.cli import UserError
from shards.cluster import fan_out
from shards.writer import ShardReport


def slow_square(number: int) -> ShardReport:
    """Sleep for longer than the driver waits between two looks."""
    time.sleep(1.2)
    return ShardReport(1, {"ok": number * number})


def fail(error: type[Exception]) -> ShardReport:
    """Stand for a bug in a task, or for something the user can mend."""
    raise error("one too many")


@pytest.fixture(autouse=True)
def importable_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def test_no_more_tasks_are_taken_from_the_list_than_two_a_slot() -> None:
    taken, done, most = 0, 0, 0

    def tasks() -> Iterator[int]:
        nonlocal taken, most
        for number in range(7):
            taken += 1
            most = max(most, taken - done)
            yield number

    squares = []
    for report in fan_out(slow_square, tasks(), total_clips=7, slots=1):
        done += 1
        squares.append(report.outcomes["ok"])
    assert sorted(squares) == [number * number for number in range(7)]
    assert most == 2
    assert not ray.is_initialized()


def test_a_bug_in_a_task_is_raised_with_its_traceback_and_ends_the_cluster() -> None:
    with pytest.raises(ZeroDivisionError, match="in fail\n"):
        list(fan_out(fail, [ZeroDivisionError], total_clips=1, slots=1))
    assert not ray.is_initialized()


def test_what_the_user_can_mend_stays_one_line() -> None:
    with pytest.raises(UserError) as caught:
        list(fan_out(fail, [UserError], total_clips=1, slots=1))
    assert str(caught.value) == "one too many"


def test_a_cluster_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"no Ray cluster answers at RAY_ADDRESS=127\.0\.0\.1:1"):
        list(fan_out(slow_square, [1], total_clips=1))

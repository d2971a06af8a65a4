import threading
import time
from collections.abc import Generator, Iterator
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import python
from waiting import HANG_S

from audio_barlow_twins.shards.base.ahead import Background, ahead


def test_work_comes_back_in_the_order_of_the_items() -> None:
    first_may_go = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert first_may_go.wait(10)
        if item == 3:
            first_may_go.set()
        return 10 * item

    assert [(item, done.result()) for item, done in ahead(work, range(6), 3, 4)] == [
        (item, 10 * item) for item in range(6)
    ]


def test_what_work_raises_is_raised_at_its_item_alone() -> None:
    done = dict(ahead(lambda item: 1 // item, [1, 0, 2], 2, 3))
    assert (done[1].result(), done[2].result()) == (1, 0)
    with pytest.raises(ZeroDivisionError):
        done[0].result()


def test_who_stops_early_does_not_wait_for_what_has_not_begun() -> None:
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.05)

    results = ahead(work, range(100), 2, 100)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(begun) < 20


@given(count=st.integers(0, 20), most=st.integers(1, 5), threads=st.integers(1, 3))
def test_items_are_taken_a_bounded_number_ahead(count: int, most: int, threads: int) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(count):
            taken += 1
            yield item

    for i, _ in enumerate(ahead(abs, items(), threads, most)):
        assert taken <= i + most
    assert taken == count


class Counting:
    """Numbers from 0 on; how many were made, and whether the iteration was closed."""

    def __init__(self, stop: int = 10**9) -> None:
        self.made, self.stop, self.closed = 0, stop, threading.Event()

    def __iter__(self) -> Generator[int]:
        try:
            for number in range(self.stop):
                self.made += 1
                yield number
            if self.stop < 100:
                raise ZeroDivisionError
        finally:
            self.closed.set()


def background_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "of this test"]


def in_background(numbers: Counting, most: int = 3) -> Background[int]:
    return Background(iter(numbers), most, "of this test")  # type: ignore[arg-type]


@given(most=st.integers(1, 6), taken=st.integers(0, 30))
def test_a_background_makes_a_bounded_number_of_items_in_order(most: int, taken: int) -> None:
    numbers = Counting()
    items = in_background(numbers, most)
    assert numbers.made == 0  # nothing begins before it is asked for
    assert list(islice(items, taken)) == list(range(taken))
    time.sleep(0.001)
    assert numbers.made <= taken + most - 1 if taken else numbers.made == 0
    items.close()
    assert numbers.closed.is_set() == (taken > 0)
    assert list(items) == []
    assert not background_threads()


def test_a_background_is_as_far_ahead_as_it_may_be() -> None:
    numbers = Counting()
    items = in_background(numbers, 4)
    next(items)
    end = time.monotonic() + HANG_S
    while numbers.made < 4 and time.monotonic() < end:
        time.sleep(0.001)
    assert numbers.made == 4
    items.close()


def test_an_error_comes_where_its_item_would_have_and_ends_the_iteration() -> None:
    items = in_background(Counting(stop=5))
    assert list(islice(items, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(ZeroDivisionError):
        next(items)
    assert list(items) == []
    assert not background_threads()


def test_who_waits_for_an_item_is_told_of_the_end() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> Generator[int]:
        begun.set()
        assert go_on.wait(HANG_S)
        yield 1

    items, got = Background(slow(), 1, "of this test"), []
    waiting = threading.Thread(target=lambda: got.extend(items))
    waiting.start()
    assert begun.wait(HANG_S)
    closing = threading.Thread(target=items.close)
    closing.start()
    go_on.set()
    for thread in (waiting, closing):
        thread.join(HANG_S)
        assert not thread.is_alive()
    assert got in ([], [1])


FORGOTTEN = """
import time
from audio_barlow_twins.shards.base.ahead import Background
def items():
    try:
        while True:
            yield 1
    finally:
        print("closed", flush=True)
kept = Background(items(), 2, "forgotten")
next(kept)
"""


def test_an_interpreter_that_ends_waits_for_the_thread() -> None:
    process = python("-c", FORGOTTEN)
    output, errors = process.communicate(timeout=HANG_S)
    assert (output, errors, process.returncode) == ("closed\n", "", 0)

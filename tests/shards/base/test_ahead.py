import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_barlow_twins.shards.base.ahead import ahead


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

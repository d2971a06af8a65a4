"""Copies between host and GPU: what they hold, and when they are awaited."""

from collections.abc import Iterator

import torch

from audio_barlow_twins.shards.base.transfer import HostCopy, one_late, to_device


def test_items_come_once_the_next_one_is_there() -> None:
    made: list[int] = []

    def making() -> Iterator[int]:
        for i in range(4):
            made.append(i)
            yield i

    assert [(i, len(made)) for i in one_late(making())] == [(0, 2), (1, 3), (2, 4), (3, 4)]
    assert list(one_late([])) == []


def test_on_the_cpu_a_copy_keeps_the_values_of_its_time() -> None:
    x = torch.zeros(3, 4)
    copy = HostCopy(x)
    x += 1
    assert torch.equal(copy.result(), torch.zeros(3, 4))
    assert to_device(x, torch.device("cpu")) is x

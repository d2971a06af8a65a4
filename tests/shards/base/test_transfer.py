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


def test_on_the_cpu_nothing_is_copied() -> None:
    x = torch.randn(3, 4)
    assert HostCopy(x).result() is x
    assert to_device(x, torch.device("cpu")) is x

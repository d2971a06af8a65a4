"""Copies between host and GPU beside the computation, so that neither waits for the other."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")


class HostCopy:
    """A tensor on its way from a GPU to host memory: begun at once, awaited where it is read.

    It has the values of now, also if whoever made the tensor uses its memory again.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor = tensor.clone()
        self._arrived: torch.cuda.Event | None = None
        if tensor.is_cuda:
            side = torch.cuda.Stream(tensor.device)
            side.wait_stream(torch.cuda.current_stream(tensor.device))
            with torch.cuda.stream(side):
                self._tensor = tensor.to("cpu", non_blocking=True)  # torch pins its memory
            tensor.record_stream(side)
            self._arrived = side.record_event()

    def result(self) -> Tensor:
        """Return the values, in memory of their own: pinned memory is scarce, and used again."""
        if self._arrived is None:
            return self._tensor
        self._arrived.synchronize()
        return self._tensor.clone()


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to a device; a copy to a GPU is pinned, as an unpinned one waits for the GPU."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def one_late(items: Iterable[Item]) -> Iterator[Item]:
    """Yield each item once the next one is there, so that a GPU works on that one meanwhile."""
    held: list[Item] = []
    for item in items:
        yield from held
        held = [item]
    yield from held

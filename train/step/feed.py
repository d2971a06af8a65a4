"""Copy batches to the device ahead of their use, concurrently with the computation."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from audio_barlow_twins.shards.read.reader import Batch

from ..views.draws import sample_keys
from .clock import Clock

AHEAD = 2
"""Batches that are on the device, or being copied, while one is used."""
HOLD = AHEAD + 1
"""Batches of the reader that a feed uses at a time."""


class Inputs(NamedTuple):
    """What a step computes from, on its device."""

    crops: Tensor
    """int16 PCM [N, samples], or float16 log-mel [N, T, F]."""
    keys: Tensor
    """Of the random streams of views A and B of every clip, int64 [2, N]."""


def feed(
    stream: Iterator[Batch], device: torch.device, clock: Clock, seed: int
) -> Iterator[Inputs]:
    """Yield the batches of `stream` on the device; mark the wait for data on `clock`.

    Batches are in (pinned) host memory; each must stay valid until HOLD more were requested.
    """
    if device.type == "cuda":
        yield from _copied(stream, device, clock, seed)
        return
    while True:
        batch = next(stream, None)
        clock.mark("waiting for data")
        if batch is None:
            return
        yield Inputs(batch.crops, _keys(batch, seed))


def _keys(batch: Batch, seed: int) -> Tensor:
    return torch.from_numpy(sample_keys(seed, batch.epochs, batch.clips))


def _copied(
    stream: Iterator[Batch], device: torch.device, clock: Clock, seed: int
) -> Iterator[Inputs]:
    side = torch.cuda.Stream(device)
    copies = deque(_start_copy(stream, side, seed) for _ in range(AHEAD))
    while (copied := copies.popleft()) is not None:
        inputs, arrived = copied
        copies.append(_start_copy(stream, side, seed))
        clock.mark("waiting for data")
        main = torch.cuda.current_stream(device)
        main.wait_event(arrived)
        for tensor in inputs:
            tensor.record_stream(main)
        yield inputs
        arrived.synchronize()  # no wait by now; the reader may refill this batch's host memory


def _start_copy(
    stream: Iterator[Batch], side: torch.cuda.Stream, seed: int
) -> tuple[Inputs, torch.cuda.Event] | None:
    batch = next(stream, None)
    if batch is None:
        return None
    keys = _keys(batch, seed).pin_memory()  # a copy from other memory would wait for the GPU
    with torch.cuda.stream(side):
        inputs = Inputs(*(x.to(side.device, non_blocking=True) for x in (batch.crops, keys)))
        arrived = torch.cuda.Event()
        arrived.record(side)
    return inputs, arrived

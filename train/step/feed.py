"""Copy batches to the device ahead of their use, concurrently with the computation."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import torch

from audio_barlow_twins.shards.read.reader import Batch

from .clock import Clock

AHEAD = 2
"""Batches that are on the device, or being copied, while one is used."""
HOLD = AHEAD + 1
"""Batches of the reader that a feed uses at a time."""


def feed(stream: Iterator[Batch], device: torch.device, clock: Clock) -> Iterator[Batch]:
    """Yield the batches of `stream` on the device; mark the wait for data on `clock`.

    Batches are in (pinned) host memory; each must stay valid until HOLD more were requested.
    """
    if device.type == "cuda":
        yield from _copied(stream, device, clock)
        return
    while True:
        batch = next(stream, None)
        clock.mark("waiting for data")
        if batch is None:
            return
        yield batch


def _copied(stream: Iterator[Batch], device: torch.device, clock: Clock) -> Iterator[Batch]:
    side = torch.cuda.Stream(device)
    copies = deque(_start_copy(stream, side) for _ in range(AHEAD))
    while (copied := copies.popleft()) is not None:
        batch, arrived = copied
        copies.append(_start_copy(stream, side))
        clock.mark("waiting for data")
        main = torch.cuda.current_stream(device)
        main.wait_event(arrived)
        for tensor in (batch.crops, batch.clips, batch.epochs):
            tensor.record_stream(main)
        yield batch
        arrived.synchronize()  # no wait by now; the reader may refill this batch's host memory


def _start_copy(
    stream: Iterator[Batch], side: torch.cuda.Stream
) -> tuple[Batch, torch.cuda.Event] | None:
    batch = next(stream, None)
    if batch is None:
        return None
    # Clips and epochs share one pinned copy; an unpinned one would wait for the GPU.
    numbers = torch.stack([batch.clips, batch.epochs]).pin_memory()
    with torch.cuda.stream(side):
        crops = batch.crops.to(side.device, non_blocking=True)
        clips, epochs = numbers.to(side.device, non_blocking=True).unbind()
        arrived = torch.cuda.Event()
        arrived.record(side)
    return replace(batch, crops=crops, clips=clips, epochs=epochs), arrived

"""Checkpoints written in the background, so that training does not wait for the disk."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from audio_barlow_twins.model.checkpoint import Checkpoint

log = logging.getLogger(__name__)


class Saver:
    """Copy checkpoints to host memory and write the copies in a thread, one at a time.

    A copy takes as much memory as the checkpoint until it is written. That of a GPU is pinned, and
    torch keeps its memory for the next one. When the block ends, all is written.

    Args:
        write: writes a checkpoint, atomically; None in a process that saves nothing.
        device: of the checkpoints.
        every_s: how often to save.

    Raises:
        Exception: what `write` raised, from the next `save`, `wait` or the end of the block.
    """

    def __init__(
        self, write: Callable[[Checkpoint], None] | None, device: torch.device, every_s: float
    ) -> None:
        self._write, self._device, self._every_s = write, device, every_s
        self._saved_at = time.monotonic()
        self._pool = ThreadPoolExecutor(1, "saving")
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown()
        if kind is None:
            self.wait()
        elif self._writing and (error := self._writing.exception()):
            log.error("the last checkpoint was not saved: %s", error)

    @property
    def is_late(self) -> bool:
        """Whether the last save was longer ago than wanted, or has failed."""
        writing = self._writing
        if writing and writing.done() and writing.exception():
            return True
        return self._write is not None and time.monotonic() - self._saved_at > self._every_s

    def save(self, checkpoint: Checkpoint) -> None:
        """Copy a checkpoint and begin to write it, once the one before it is written."""
        if self._write is None:
            return
        self.wait()
        state, training = (on_host(part) for part in (checkpoint.state, checkpoint.training))
        copied: torch.cuda.Event | None = None
        if self._device.type == "cuda":  # in its turn: before the next step changes the weights
            copied = torch.cuda.current_stream(self._device).record_event()
        kept = replace(checkpoint, state=state, training=training)
        self._writing = self._pool.submit(_write_copy, self._write, kept, copied)
        self._saved_at = time.monotonic()

    def wait(self) -> None:
        """Return when all is written."""
        writing, self._writing = self._writing, None
        if writing:
            writing.result()


def _write_copy(
    write: Callable[[Checkpoint], None], checkpoint: Checkpoint, copied: torch.cuda.Event | None
) -> None:
    if copied:
        copied.synchronize()
    write(checkpoint)


def on_host(value: Any) -> Any:
    """Copy the tensors in dicts, lists and tuples; those of a GPU arrive, pinned, in its turn."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", non_blocking=value.is_cuda, copy=True)
    if isinstance(value, dict):
        return {key: on_host(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(on_host(item) for item in value)
    return value

"""How the time of a step divides into parts, on the host's clock or on the GPU's."""

import time
from collections import defaultdict

import torch

PARTS = (
    "waiting for data",
    "copy",
    "views",
    "forward and backward",
    "optimiser",
    "whole step",
    "logging",
    "looks",
    "saving",
)
"""The parts, which together are all of a step's time."""


class Clock:
    """Attribute all time to parts: that between two marks belongs to the name of the second.

    On a GPU a mark is an event in its queue, so a part's time is what the GPU spent on it or was
    idle in it because the host was late. `waiting for data` is then the time in which the GPU was
    idle until a batch arrived.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._on_gpu = device is not None and device.type == "cuda"
        self._marks: list[tuple[str, float | torch.cuda.Event]] = []
        self.mark("")

    def mark(self, name: str) -> None:
        """Count the time since the last mark for `name`."""
        if not self._on_gpu:
            self._marks.append((name, time.perf_counter()))
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append((name, event))

    def lap(self) -> tuple[float, dict[str, float]]:
        """Return the seconds since the last lap and the share of each part, and reset.

        It waits for the GPU, so call it where the losses have been read.
        """
        seconds: dict[str, float] = defaultdict(float)
        last = self._marks[-1][1]
        if isinstance(last, torch.cuda.Event):
            last.synchronize()
        for (_, begin), (name, end) in zip(self._marks, self._marks[1:], strict=False):
            if isinstance(begin, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
                seconds[name] += begin.elapsed_time(end) / 1000
            elif isinstance(begin, float) and isinstance(end, float):
                seconds[name] += end - begin
        self._marks = self._marks[-1:]
        total = sum(seconds.values())
        return total, {part: seconds[part] / total if total else 0.0 for part in PARTS}

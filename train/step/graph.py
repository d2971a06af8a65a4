"""A step as one CUDA graph: the host gives a single order where it gave hundreds."""

from collections import deque

import torch
from torch import Tensor

from .step import Step, StepResult

WARM_UP = 3
"""Steps before the capture, in which libraries choose kernels and reserve memory."""
AHEAD = 3
"""Steps that the host may be ahead of the device."""


class GraphedStep:
    """Replay a step that was captured, on inputs of one shape.

    The first WARM_UP calls launch its kernels one by one, and are steps like all others. What a
    replay returns is overwritten by the next, except the losses.
    """

    def __init__(self, step: Step, device: torch.device) -> None:
        self.step, self.taken = step, 0
        self.side = torch.cuda.Stream(device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.ends: deque[torch.cuda.Event] = deque()

    def __call__(self, crops: Tensor, keys: Tensor) -> StepResult:
        if self.taken < WARM_UP:
            self.taken += 1
            return self._warm_up(crops, keys)
        if self.graph is None:
            self._capture(crops, keys)
        assert self.graph is not None
        self.crops.copy_(crops)
        self.keys.copy_(keys)
        self.graph.replay()
        self._keep_pace()
        return self.result._replace(losses=self.result.losses.clone())

    def _warm_up(self, crops: Tensor, keys: Tensor) -> StepResult:
        main = torch.cuda.current_stream(self.side.device)
        self.side.wait_stream(main)
        with torch.cuda.stream(self.side):
            result = self.step(crops, keys)
        main.wait_stream(self.side)
        for tensor in result:
            tensor.record_stream(main)
        return result

    def _capture(self, crops: Tensor, keys: Tensor) -> None:
        """Record the orders of a step, without taking it."""
        self.crops, self.keys = crops.clone(), keys.clone()
        self.graph = torch.cuda.CUDAGraph()
        # Other threads, which read and save, may go on meanwhile.
        capture = torch.cuda.graph(self.graph, stream=self.side, capture_error_mode="thread_local")
        with capture:
            self.result = self.step(self.crops, self.keys)

    def _keep_pace(self) -> None:
        end = torch.cuda.Event()
        end.record()
        self.ends.append(end)
        if len(self.ends) > AHEAD:
            self.ends.popleft().synchronize()

"""A captured step: what is captured and replayed, on a stand-in for CUDA that runs on the CPU.

The stand-in knows of a graph what the test needs: nothing happens while it is captured, and a
replay does on the same tensors what the captured step did. `tests/test_gpu.py` has the real one.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from audio_barlow_twins.train.step import graph as module
from audio_barlow_twins.train.step.graph import AHEAD, WARM_UP, GraphedStep
from audio_barlow_twins.train.step.step import StepResult


class Toy:
    """Add the crops to the weights; count the calls by Python."""

    def __init__(self) -> None:
        self.weights, self.calls = torch.zeros(3), 0
        self.pending: list[Any] = []

    def __call__(self, crops: Tensor, keys: Tensor) -> StepResult:
        self.calls += 1
        self.weights += crops.sum(0)
        losses = self.weights * keys.sum()
        self.replay = lambda: self._again(crops, keys, losses)
        return StepResult(losses, self.weights, crops)

    def _again(self, crops: Tensor, keys: Tensor, losses: Tensor) -> None:
        self.weights += crops.sum(0)
        losses.copy_(self.weights * keys.sum())


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    """Put the stand-in in the place of torch.cuda."""
    toy, waited = Toy(), list[int]()

    class Event:
        made = 0

        def record(self) -> None:
            Event.made += 1
            self.number = Event.made

        def synchronize(self) -> None:
            waited.append(self.number)

    @contextmanager
    def capture(graph: Any, stream: Any, capture_error_mode: str) -> Iterator[None]:
        before = toy.weights.clone()
        yield
        toy.weights.copy_(before)
        graph.replay = toy.replay

    stream = SimpleNamespace(wait_stream=lambda other: None, device=None)
    cuda = SimpleNamespace(
        Stream=lambda device: stream, current_stream=lambda device: stream,
        stream=lambda stream: nullcontext(), CUDAGraph=SimpleNamespace, graph=capture, Event=Event,
    )  # fmt: skip
    monkeypatch.setattr(module, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(Tensor, "record_stream", lambda self, stream: None)
    toy.waited = waited  # type: ignore[attr-defined]
    return toy


def test_every_step_is_taken_once_and_only_the_first_by_python(toy: Toy) -> None:
    step, expected, losses = GraphedStep(toy, torch.device("cuda")), torch.zeros(3), []
    for number in range(WARM_UP + 5):
        crops, keys = torch.full((2, 3), float(number)), torch.tensor([[number + 1]])
        expected = expected + crops.sum(0)
        losses.append(step(crops, keys).losses)
        assert torch.equal(toy.weights, expected)
        assert torch.equal(losses[-1], expected * (number + 1))
    assert toy.calls == WARM_UP + 1
    # Those of earlier steps are still there.
    assert [float(x[0]) for x in losses] == [n * (n + 1) * (n + 1) for n in range(WARM_UP + 5)]


def test_the_host_is_a_few_steps_ahead_at_most(toy: Toy) -> None:
    step = GraphedStep(toy, torch.device("cuda"))
    for _ in range(WARM_UP + 10):
        step(torch.ones(2, 3), torch.ones(1, 1))
    assert toy.waited == [*range(1, 10 - AHEAD + 1)]  # type: ignore[attr-defined]

"""The cost of a training step: with streamed and with resident batches, its parts, its FLOP/s."""

import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from audio_barlow_twins.shards.base.cli import say
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import replacing
from audio_barlow_twins.shards.stored.form import logmel_form, wave_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.shardset import ShardSet

from ..config import StepKind
from ..presets import PRESETS
from ..run.summary import PAPER_CLIPS, PAPER_EPOCHS
from ..step.feed import Inputs
from ..step.ranks import Ranks, choose_device
from ..step.trainer import Trainer
from ..views.base import WaveView
from ..views.registry import of_kind

WARM_UP = 5
"""Steps before the first timing, while kernels are loaded or compiled."""
RESIDENT = 8
"""Batches on the device for the step without streaming."""
CLIPS = 512
PROFILED = 3


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure training steps with streamed and resident batches: time, parts, FLOP/s."""

    presets: tuple[str, ...] = ("audiontt-audioset", "vitc-b-audioset")
    """Presets whose step is measured, on synthetic clips of 10 s."""
    batch: int = 128
    """Clips per step."""
    steps: int = 50
    """Steps per timing."""
    rounds: int = 3
    """Timings of streamed and resident steps, alternately; the median counts."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto: a GPU if there is one."""
    step: tuple[StepKind, ...] = ("auto",)
    """Kinds of step to measure, one after the other; see `abt train PRESET --help`."""
    profile: int = 0
    """Also list this many of the most expensive operations of a step."""
    json: Path | None = None
    """Write all figures to this file, anew after every measurement."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.presets) - set(PRESETS)):
            raise UserError(f"no preset is called {unknown[0]}; choose from {', '.join(PRESETS)}")
        if min(self.batch - 1, self.steps, self.rounds) < 1 or self.profile < 0:
            raise UserError(
                "steps and rounds must be 1 or more, batch 2 or more, profile 0 or more"
            )

    def run(self) -> None:
        from audio_barlow_twins.shards.stored.synthetic import synthetic_shards

        device = choose_device(self.device)
        peak = matmul_flops(device)
        say(
            f"{chip(device)}, torch {torch.__version__}: {peak / 1e12:.3g} TFLOP/s in a large bf16 "
            f"product, {copy_bytes(device) / 1e9:.3g} GB/s in a copy in its memory"
        )
        found = []
        with tempfile.TemporaryDirectory() as folder:
            sets: dict[bool, ShardSet] = {}
            for name in self.presets:
                for kind in self.step:
                    given = PRESETS[name][1]
                    config = replace(given, batch=self.batch, step=kind, device=self.device)
                    waves = bool(of_kind(config.chain, WaveView))
                    if waves not in sets:
                        form = wave_form() if waves else logmel_form(FrontEnd())
                        sets[waves] = synthetic_shards(
                            Path(folder) / form.kind, CLIPS, per_shard=CLIPS, form=form
                        )
                    trainer = Trainer(config, sets[waves], Ranks(device=device))
                    with trainer.reader:
                        step = measure(trainer, name, self.steps, self.rounds)
                        say(step.describe(peak))
                        if self.profile:
                            say(operations(trainer, self.profile))
                    found.append(asdict(step))
                    self._write(device, found)

    def _write(self, device: torch.device, found: list[dict[str, Any]]) -> None:
        if not self.json:
            return
        facts = {"chip": chip(device), "torch": torch.__version__, "steps": found}
        with replacing(self.json) as scratch:
            scratch.write_text(json.dumps(facts, indent=1))


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The measurements of one kind of step."""

    preset: str
    kind: str
    """plain, compiled or graph."""
    batch: int
    streamed_s: float
    """Seconds per step with batches from shards."""
    resident_s: float
    """Seconds per step with batches that stay on the device."""
    shares: dict[str, float]
    """Share of the streamed step's time by part."""
    flop: int
    """Floating-point operations of a step in products and convolutions."""
    read_bytes: int
    """Bytes that a step reads from shards."""

    def describe(self, peak: float) -> str:
        """Return the figures in a few lines; `peak` is the FLOP/s of a large matrix product."""
        rate = self.flop / self.streamed_s
        parts = ", ".join(f"{part} {100 * share:.1f} %" for part, share in self.shares.items())
        return (
            f"\n{self.preset}, {self.kind} steps of {self.batch}\n"
            f"  streamed {1000 * self.streamed_s:.2f} ms a step, resident "
            f"{1000 * self.resident_s:.2f} ms: ratio {self.streamed_s / self.resident_s:.3f}\n"
            f"  {self.batch / self.streamed_s:,.0f} clips/s, "
            f"{self.read_bytes / self.streamed_s / 1e6:.1f} MB/s of shards, {rate / 1e12:.3g} "
            f"TFLOP/s ({100 * rate / peak:.0f} % of the product)\n  {parts}\n"
            f"  {PAPER_EPOCHS} epochs of {PAPER_CLIPS:,} clips: {self.hours:,.1f} h"
        )

    @property
    def hours(self) -> float:
        """Of the paper's training at this speed."""
        return PAPER_EPOCHS * PAPER_CLIPS / self.batch * self.streamed_s / 3600


def measure(trainer: Trainer, preset: str, steps: int, rounds: int) -> Timing:
    """Time streamed and resident steps alternately."""
    resident = cycle([copied(inputs) for inputs in islice(trainer.batches(), RESIDENT)])
    # Compiled code cannot be counted, and what cannot be compiled once is not tried again.
    with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
        trainer.take_step(next(resident))
    timed(trainer, resident, WARM_UP)
    streamed_s, resident_s = [], []
    for _ in range(rounds):
        resident_s.append(timed(trainer, resident, steps))
        stream = trainer.batches()
        timed(trainer, stream, WARM_UP)
        trainer.clock.lap()
        streamed_s.append(timed(trainer, stream, steps))
        _, shares = trainer.clock.lap()
        del stream
    return Timing(
        preset=preset,
        kind=trainer.kind,
        batch=trainer.config.batch,
        streamed_s=median(streamed_s),
        resident_s=median(resident_s),
        shares=shares,
        flop=counter.get_total_flops(),
        read_bytes=trainer.config.batch * trainer.reader.crop_bytes,
    )


def timed(trainer: Trainer, batches: Iterator[Inputs], steps: int) -> float:
    """Take some steps; return seconds per step."""
    synchronise(trainer.device)
    begin = time.perf_counter()
    for inputs in islice(batches, steps):
        trainer.take_step(inputs)
    synchronise(trainer.device)
    return (time.perf_counter() - begin) / steps


def copied(inputs: Inputs) -> Inputs:
    """Copy a batch, whose memory the reader will reuse."""
    return Inputs(*(x.clone() for x in inputs))


def operations(trainer: Trainer, rows: int) -> str:
    """Profile some steps; return a table of the operations by their own time."""
    averages = profiled(trainer).key_averages()
    order = f"self_{'device' if trainer.device.type == 'cuda' else 'cpu'}_time_total"
    return averages.table(sort_by=order, row_limit=rows, max_name_column_width=48)


def profiled(trainer: Trainer) -> profile:
    """Profile PROFILED steps."""
    batches = [copied(inputs) for inputs in islice(trainer.batches(), PROFILED)]
    gpu = trainer.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * gpu]) as profiler:
        timed(trainer, iter(batches), len(batches))
    return profiler


def matmul_flops(device: torch.device) -> float:
    """Measure FLOP/s of a large bf16 matrix product."""
    size = 8192 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    return 2 * size**3 / _fastest(lambda: a @ a, device)


def copy_bytes(device: torch.device) -> float:
    """Measure bytes/s that a copy reads and writes in the device's memory."""
    a = torch.empty(2**30 if device.type == "cuda" else 2**27, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    return 2 * len(a) / _fastest(lambda: b.copy_(a), device)


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    found = []
    for _ in range(10):
        synchronise(device)
        begin = time.perf_counter()
        work()
        synchronise(device)
        found.append(time.perf_counter() - begin)
    return min(found)


def synchronise(device: torch.device) -> None:
    """Wait for a GPU to finish its queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def chip(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"

"""Ten minutes on a GPU: right numbers, no waiting, the same bits, times and kernels.

    python tests/bench/gpu.py --out OUT                        # on a machine with a GPU
    python tests/bench/gpu.py --out OUT --device cpu --tiny    # the logic of it, without one

Each part is a process of its own with a time limit, so that one may fail. OUT/gpu.json is written
after each result, a table is printed last. Nothing is installed or fetched; torch, nnAudio and what
training imports must be there, and pytest and hypothesis for the part `tests`.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.autograd import DeviceType
from views_bench import timed

from audio_barlow_twins.model.embedder import frozen
from audio_barlow_twins.shards.base.cli import run_command, say
from audio_barlow_twins.shards.base.device import exact_products, repeatable
from audio_barlow_twins.shards.base.files import replacing
from audio_barlow_twins.shards.stored.form import wave_form
from audio_barlow_twins.shards.stored.logmel import LogMel
from audio_barlow_twins.shards.stored.shardset import open_shards
from audio_barlow_twins.shards.stored.synthetic import synthetic_shards
from audio_barlow_twins.train.config import StepKind, TrainConfig
from audio_barlow_twins.train.presets import PRESETS
from audio_barlow_twins.train.step.graph import WARM_UP
from audio_barlow_twins.train.step.lars import LARS
from audio_barlow_twins.train.step.ranks import Ranks
from audio_barlow_twins.train.step.trainer import Trainer
from audio_barlow_twins.train.tools.bench import (
    PROFILED,
    chip,
    copied,
    copy_bytes,
    matmul_flops,
    measure,
    profiled,
)
from audio_barlow_twins.train.views.bank import Bank
from audio_barlow_twins.train.views.base import ViewContext, WaveView, draws_of
from audio_barlow_twins.train.views.draws import sample_keys
from audio_barlow_twins.train.views.pipeline import needed_samples
from audio_barlow_twins.train.views.registry import default_views, of_kind

NAMES = ("audiontt-audioset", "vitc-b-audioset", "waveform-light", "waveform-strong")
N_OUT = 15200
Results = Iterator[tuple[str, Any]]


@dataclass(frozen=True)
class Place:
    """Where and how large the work of a part is."""

    folder: Path
    device: torch.device
    tiny: bool

    @property
    def gpu(self) -> bool:
        return self.device.type == "cuda"

    def config(self, name: str, **changes: Any) -> TrainConfig:
        """Return a preset, on noise and of any length."""
        given = PRESETS[name][1]
        form = "wave" if of_kind(given.chain, WaveView) else "logmel"
        config = replace(
            given, shards=str(self.folder / form), run=self.folder / "run", device=self.device.type,
            epochs=4000.0, block_shards=0,
        )  # fmt: skip
        if self.tiny:
            encoder = given.encoder.replace("-b-", "-t-")
            config = replace(
                config, encoder=encoder, batch=4, projector_hidden=64, projector_out=32,
                crop_frames=16,
            )  # fmt: skip
        return replace(config, **changes)

    def trainer(self, config: TrainConfig) -> Trainer:
        return Trainer(config, open_shards(config.shards), Ranks(device=self.device))

    def kinds(self, *kinds: StepKind) -> tuple[StepKind, ...]:
        return tuple(kind for kind in kinds if self.gpu or kind != "graph")


def relative(found: Tensor, wanted: Tensor) -> float:
    found, wanted = found.detach().cpu().double(), wanted.detach().cpu().double()
    return float((found - wanted).norm() / wanted.norm().clamp_min(1e-30))


def without_dropout(trainer: Trainer) -> Trainer:
    for module in trainer.network.modules():
        if hasattr(module, "dropped"):
            module.dropped = 0
    return trainer


def tried(answer: Callable[..., Any]) -> Callable[..., Any]:
    """Answer, or say how that failed: minutes of a GPU are few, and the other answers count."""

    def answering(*arguments: Any, **named: Any) -> Any:
        try:
            return answer(*arguments, **named)
        except Exception as error:
            where = traceback.format_exc()[-900:]
            return {"failed": f"{type(error).__name__}: {str(error)[:300]}", "where": where}

    return answering


# ------------------------------------------------------------------------------------------ parts


def machine(place: Place) -> Results:
    """What the machine is, and what a launch costs its host."""
    yield "chip", chip(place.device)
    yield "torch", torch.__version__
    yield "python", sys.version.split()[0]
    yield "cores", os.cpu_count()
    yield "bf16 TFLOP/s", matmul_flops(place.device) / 1e12
    yield "copy TB/s", copy_bytes(place.device) / 1e12
    x = torch.zeros(8, device=place.device)
    yield "us a launch", timed(lambda: [x.add_(1) for _ in range(1000)], place.device)


def log_mel(place: Place) -> Results:
    """Log-mel on the device beside the CPU's, and its time."""
    rng = torch.Generator().manual_seed(0)
    loud = torch.logspace(-4, -0.5, 32)[:, None]
    tones = torch.sin(torch.arange(N_OUT) * torch.rand(32, 1, generator=rng) * 3) * loud
    waves = torch.cat([tones, torch.randn(32, N_OUT, generator=rng) * loud])
    expected = LogMel()(waves)
    batch = torch.randn(8 if place.tiny else 256, N_OUT, device=place.device) * 0.1
    for backend in ("nnaudio", "fft"):
        module = LogMel(backend=backend).to(place.device)
        error = (module(waves.to(place.device)).cpu() - expected).abs()
        yield (
            backend,
            {
                "max": float(error.max()),
                "max above -4": float(error[expected > -4].max()),
                "ms of 256 clips": timed(lambda module=module: module(batch), place.device),
            },
        )


def views(place: Place) -> Results:
    """Every view on the device beside the CPU's, from the same numbers."""
    for name in default_views():
        yield name, _view_error(place, name)


@tried
def _view_error(place: Place, name: str) -> dict[str, float]:
    n, view = 8 if place.tiny else 64, default_views()[name]
    keys = torch.from_numpy(sample_keys(0, np.zeros(1), np.arange(n))[0])
    waves = isinstance(view, WaveView)
    shape, gain = ((N_OUT,), 0.1) if waves else ((96, 64), 1.0)
    needed = needed_samples({name: view}, N_OUT, 16000) if waves else 96
    rng = torch.Generator().manual_seed(1)
    x = gain * torch.randn(n, needed, *shape[1:], generator=rng)
    made = []
    for device in (torch.device("cpu"), place.device):
        bank = Bank(n, shape, device)
        bank.push(x[:, : shape[0]].to(device))
        drawn = draws_of({name: view}, device)(keys.to(device))[name]
        out, _ = view(x.to(device), drawn, ViewContext(shape=shape, bank=bank))
        made.append(out.cpu().flatten(1).double())
    error = (made[1] - made[0]).norm(dim=1) / made[0].norm(dim=1).clamp_min(1e-9)
    return {"median": float(error.median()), "max": float(error.max())}


def gradients(place: Place) -> Results:
    """Loss and gradients on the device beside float64 on the CPU, and twenty steps of LARS."""
    n, frames = (8, 16) if place.tiny else (32, 96)
    a, b = torch.randn(2, n, frames, 64, generator=torch.Generator().manual_seed(0)).unbind()
    for name in ("audiontt-audioset", "vitc-t"):
        config = place.config(name, projector_hidden=512, projector_out=256, batch=n)
        network = without_dropout(place.trainer(config)).network
        state = {key: value.clone() for key, value in network.state_dict().items()}
        wanted = _gradient(network, state, a, b, torch.device("cpu"), torch.float64)
        for label, kind in (("float32", torch.float32), ("bf16", torch.bfloat16)):
            found = _gradient(network, state, a, b, place.device, kind)
            yield f"{name}, {label}", relative(found, wanted)
    shapes, rng = [(64, 1, 3, 3), (2048, 1024), (2048,)], torch.Generator().manual_seed(0)
    values = [0.05 * torch.randn(shape, generator=rng) for shape in shapes]
    moved = [_moved(values, place.device, torch.float32), _moved(values, "cpu", torch.float64)]
    yield "LARS, float32", relative(*moved)


def _gradient(
    network: nn.Module, state: dict[str, Tensor], a: Tensor, b: Tensor, device: torch.device,
    kind: torch.dtype,
) -> Tensor:  # fmt: skip
    whole = torch.float64 if kind == torch.float64 else torch.float32
    network.to(device, whole).load_state_dict(state)
    network.zero_grad()
    with exact_products(), torch.autocast(device.type, kind, enabled=kind == torch.bfloat16):
        network(a.to(device, whole), b.to(device, whole)).terms.loss.backward()
    found = [x.grad.double().cpu().flatten() for x in network.parameters() if x.grad is not None]
    return torch.cat(found)


def _moved(values: list[Tensor], device: torch.device | str, kind: torch.dtype) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    weights = [nn.Parameter(value.to(device, kind, copy=True)) for value in values]
    optimiser = LARS(weights, lr=0.4)
    for _ in range(20):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=rng).to(device, kind)
        optimiser.step()
    pairs = zip(weights, values, strict=True)
    return torch.cat([(x.detach().cpu().double() - y.double()).flatten() for x, y in pairs])


def waits(place: Place) -> Results:
    """Where a step makes the host wait for the device; nowhere is wanted."""
    for name in NAMES:
        for kind in place.kinds("plain", "graph"):
            yield f"{name}, {kind}", _waits(place, place.config(name, step=kind))


@tried
def _waits(place: Place, config: TrainConfig) -> dict[str, int]:
    trainer = place.trainer(config)
    with trainer.reader, warnings.catch_warnings(record=True) as caught:
        stream = trainer.batches()
        for inputs in islice(stream, WARM_UP + 2):
            trainer.take_step(inputs)
        warnings.simplefilter("always")
        caught.clear()
        if place.gpu:
            torch.cuda.set_sync_debug_mode("warn")
        for inputs in islice(stream, 4):
            trainer.take_step(inputs)
        if place.gpu:
            torch.cuda.set_sync_debug_mode("default")
        stream.close()
    lines = [
        f"{Path(each.filename).name}:{each.lineno}"
        for each in caught
        if "called a synchronizing" in str(each.message)
    ]
    return dict(Counter(lines))


def bits(place: Place) -> Results:
    """Whether two runs, and a resumed one, end with the same bits; cuBLAS is always repeatable."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    for deterministic in (True, False):
        with repeatable(deterministic and place.gpu):
            for name in ("audiontt-audioset", "vitc-t"):
                for kind in place.kinds("plain", "graph"):
                    label = f"{name}, {kind}" + ", deterministic" * deterministic
                    yield label, _same_bits(place, place.config(name, step=kind, batch=8))


@tried
def _same_bits(place: Place, config: TrainConfig) -> dict[str, bool]:
    def ended(trainer: Trainer, steps: int) -> Tensor:
        stream = trainer.batches()
        for inputs in islice(stream, steps):
            trainer.take_step(inputs)
        stream.close()
        return torch.cat([x.double().flatten() for x in trainer.network.state_dict().values()])

    one, two, half, resumed = (place.trainer(config) for _ in range(4))
    straight, again = ended(one, 10), ended(two, 10)
    ended(half, 5)
    kept = half.checkpoint()
    resumed.restore(replace(kept, state={key: x.clone() for key, x in kept.state.items()}))
    return {
        "again": torch.equal(straight, again),
        "resumed": torch.equal(straight, ended(resumed, 5)),
    }


def graph(place: Place) -> Results:
    """Times of captured steps, for waves with either log-mel."""
    kind: StepKind = "graph" if place.gpu else "plain"
    for name in NAMES:
        for backend in ("nnaudio", "fft") if "waveform" in name else ("auto",):
            yield f"{name}, {kind}, {backend}", _timing(place, name, step=kind, log_mel=backend)


def plain(place: Place) -> Results:
    """Times and kernels of steps that are launched kernel by kernel."""
    for name in NAMES:
        yield f"{name}, plain", _timing(place, name, step="plain")


def compiled(place: Place) -> Results:
    """Times of steps that torch.compile has written."""
    for name in NAMES:
        yield f"{name}, compiled", _timing(place, name, step="compiled")


@tried
def _timing(place: Place, name: str, **changes: Any) -> dict[str, Any]:
    config = place.config(name, **changes)
    if place.gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    trainer, begin = place.trainer(config), time.perf_counter()
    with trainer.reader:
        found = measure(trainer, "", 1 if place.tiny else 60, 1 if place.tiny else 3)
        result = {
            "resident ms": 1e3 * found.resident_s,
            "streamed ms": 1e3 * found.streamed_s,
            "ratio": found.streamed_s / found.resident_s,
            "100 epochs h": found.hours,
            "TFLOP/s": found.flop / found.streamed_s / 1e12,
            "shares": {name: round(share, 4) for name, share in found.shares.items() if share},
            "took s": round(time.perf_counter() - begin, 1),
        }
        inputs = copied(next(trainer.batches()))
        result["views ms"] = _views_ms(place, trainer, inputs)
        if place.gpu:
            result["peak GB"] = torch.cuda.max_memory_allocated() / 1e9
        return result | _kernels(place, trainer)


def _views_ms(place: Place, trainer: Trainer, inputs: Any) -> float:
    """Time the views alone: on a GPU as a graph of their own, so without the host's time."""
    if not place.gpu or trainer.kind != "graph":
        return timed(lambda: trainer.views(*inputs), place.device)
    graph = torch.cuda.CUDAGraph()
    capture = torch.cuda.graph(graph, capture_error_mode="thread_local")
    with exact_products(), capture:
        trainer.views(*inputs)
    return timed(graph.replay, place.device)


def _kernels(place: Place, trainer: Trainer) -> dict[str, Any]:
    """Profile some steps: time in which the device was busy, launches, the dearest kernels."""
    profiler = profiled(trainer)
    wanted = DeviceType.CUDA if place.gpu else DeviceType.CPU
    rows = [each for each in profiler.key_averages() if each.device_type == wanted]
    cost = {r.key: r.self_device_time_total if place.gpu else r.self_cpu_time_total for r in rows}
    dearest = sorted(rows, key=lambda row: -cost[row.key])[:15]
    return {
        "busy ms": sum(cost.values()) / PROFILED / 1e3,
        "kernels": sum(row.count for row in rows) / PROFILED,
        "dearest": [
            [round(cost[r.key] / PROFILED), r.count // PROFILED, r.key[:70]] for r in dearest
        ],
    }


def hear(place: Place) -> Results:
    """Embeddings on the device beside the CPU's, and their speed."""
    trainer = place.trainer(place.config("audiontt-audioset"))
    cpu, device = (frozen(trainer.checkpoint(), name) for name in ("cpu", place.device.type))
    audio = 0.1 * torch.randn(4, 32000, generator=torch.Generator().manual_seed(0))
    yield "relative error", relative(device(audio), cpu(audio))
    clips = 0.1 * torch.randn(2 if place.tiny else 64, 160_000, device=place.device)
    yield "clips of 10 s a second", len(clips) / timed(lambda: device(clips), place.device) * 1000


def run(place: Place) -> Results:
    """The command itself, and a second call that goes on."""
    words = [
        "train", "demo", "--shards", place.folder / "logmel", "--run", place.folder / "whole",
        "--device", place.device.type, "--resume", "--log-every", 10, "--checkpoint-every-s", 1,
    ]  # fmt: skip
    if place.tiny:
        words += ["--batch", 4, "--crop-frames", 16, "--projector-hidden", 64]
    for epochs in (1, 1) if place.tiny else (20, 20):
        command = [sys.executable, "-m", "audio_barlow_twins", *words, "--epochs", epochs]
        begin = time.monotonic()
        done = subprocess.run([*map(str, command)], capture_output=True, text=True)
        tail = (done.stdout + done.stderr)[-1500:].splitlines()
        yield f"call after {begin:.0f} s", {"rc": done.returncode, "tail": tail[-12:]}


def tests(place: Place) -> Results:
    """The tests that need a GPU."""
    file = Path(__file__).parents[1] / "test_gpu.py"
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", file]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    yield "rc", done.returncode
    yield "tail", (done.stdout + done.stderr).splitlines()[-30:]


PARTS: dict[str, tuple[Callable[[Place], Results], float]] = {
    "machine": (machine, 40),
    "graph": (graph, 130),
    "plain": (plain, 110),
    "waits": (waits, 60),
    "log-mel": (log_mel, 30),
    "views": (views, 40),
    "gradients": (gradients, 40),
    "bits": (bits, 90),
    "tests": (tests, 150),
    "hear": (hear, 30),
    "run": (run, 90),
    "compiled": (compiled, 300),
}
"""The parts in their order, and the most seconds of each."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Ask a GPU everything that could not be known without one."""

    out: Path
    """Folder for gpu.json and child.log."""
    device: Literal["cuda", "cpu"] = "cuda"
    """cpu shows that the logic works."""
    tiny: bool = False
    """Do little of everything."""
    parts: tuple[str, ...] = tuple(PARTS)
    """What to do: machine, graph, plain, waits, log-mel, views, gradients, bits, tests, hear, run,
    compiled."""
    budget: float = 470
    """Seconds for all parts; those for which nothing is left are named."""
    part: str = ""
    """Internal: be the process of this part."""
    work: str = ""
    """Internal: the folder of its shards."""

    def run(self) -> None:
        if self.part:
            self._be_a_part()
            return
        self.out.mkdir(parents=True, exist_ok=True)
        begin, found = time.monotonic(), dict[str, dict[str, Any]]()
        here = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        with tempfile.TemporaryDirectory(dir=here) as work:
            n = 16 if self.tiny else 1024
            synthetic_shards(Path(work) / "logmel", n, n // 4)
            synthetic_shards(Path(work) / "wave", n, n // 4, wave_form())
            for name in self.parts:
                left = self.budget - (time.monotonic() - begin)
                found[name] = self._ask(name, work, left) if left > 5 else {"skipped": "no time"}
                self._write(found)
                say(f"[{time.monotonic() - begin:4.0f} s] {name}: {json.dumps(found[name])[:600]}")
        say(table(found))

    def _ask(self, name: str, work: str, left: float) -> dict[str, Any]:
        limit = min(PARTS[name][1] * (10 if self.tiny else 1), left)
        command = [
            sys.executable, __file__, "--part", name, "--work", work, "--out", str(self.out),
            "--device", self.device, *["--tiny"] * self.tiny,
        ]  # fmt: skip
        lines = self.out / f"{name}.jsonl"
        lines.unlink(missing_ok=True)
        result: dict[str, Any] = {}
        with (self.out / "child.log").open("a") as log:
            child = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            try:
                if code := child.wait(limit):
                    result["died"] = code
            except subprocess.TimeoutExpired:
                result["out of time after s"] = round(limit)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, 9)
                child.wait()
        if lines.exists():
            for line in lines.read_text().splitlines():
                result |= json.loads(line)
            lines.unlink()
        return result

    def _be_a_part(self) -> None:
        place = Place(Path(self.work), torch.device(self.device), self.tiny)
        if place.tiny:
            torch.set_num_threads(1)
        with (self.out / f"{self.part}.jsonl").open("a") as file:
            for name, value in PARTS[self.part][0](place):
                file.write(json.dumps({name: value}, default=str) + "\n")
                file.flush()

    def _write(self, found: dict[str, dict[str, Any]]) -> None:
        with replacing(self.out / "gpu.json") as scratch:
            scratch.write_text(json.dumps(found, indent=1))


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return the times of steps under each other."""
    columns = ("resident ms", "streamed ms", "ratio", "busy ms", "kernels", "views ms", "peak GB")
    lines = [" " * 40 + "".join(f"{column:>13}" for column in (*columns, "100 epochs h"))]
    for part in ("graph", "plain", "compiled"):
        for name, row in found.get(part, {}).items():
            if isinstance(row, dict):
                cells = [row.get(column) for column in (*columns, "100 epochs h")]
                shown = (f"{'-' if cell is None else f'{cell:.2f}':>13}" for cell in cells)
                lines.append(f"{name:40.40}" + "".join(shown))
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(lambda: tyro.cli(Check).run())

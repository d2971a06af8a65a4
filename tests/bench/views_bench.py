"""Time every view and the same operations of other libraries, in one run."""

import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from audio_barlow_twins.shards.base.cli import run_command, say
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import replacing
from audio_barlow_twins.train.step.ranks import choose_device
from audio_barlow_twins.train.tools.bench import chip, synchronise
from audio_barlow_twins.train.views.bank import Bank
from audio_barlow_twins.train.views.base import Chain, ViewContext, WaveView, draws_of
from audio_barlow_twins.train.views.draws import sample_keys
from audio_barlow_twins.train.views.pipeline import apply_chain, needed_samples
from audio_barlow_twins.train.views.registry import WAVE_PRESETS, make_chain, view_names

RATE = 16000
HOP, MELS = 160, 64
LEAST_S = 0.2
"""A round repeats an operation for at least this long."""
OURS, LOOP = "ours", "loop over samples"
OTHERS: dict[str, dict[str, tuple[str, tuple[Any, ...]]]] = {
    "time-stretch": {
        "audiomentations": ("TimeStretch", ()), "pedalboard": ("time_stretch", (1.2,)),
    },
    "pitch-shift": {
        "audiomentations": ("PitchShift", ()),
        "torch_audiomentations": ("PitchShift", ()),
        "pedalboard": ("PitchShift", (3.0,)),
    },
    "equaliser": {"audiomentations": ("SevenBandParametricEQ", ())},
    "low-pass": {
        "audiomentations": ("LowPassFilter", ()),
        "torch_audiomentations": ("LowPassFilter", ()),
        "pedalboard": ("LowpassFilter", (2000,)),
    },
    "high-pass": {
        "audiomentations": ("HighPassFilter", ()),
        "torch_audiomentations": ("HighPassFilter", ()),
        "pedalboard": ("HighpassFilter", (200,)),
    },
    "band-pass": {
        "audiomentations": ("BandPassFilter", ()),
        "torch_audiomentations": ("BandPassFilter", ()),
    },
    "compression": {"pedalboard": ("Compressor", (-20, 4, 5, 50))},
    "clipping": {
        "audiomentations": ("ClippingDistortion", ()), "pedalboard": ("Clipping", (-6,)),
    },
    "reverb": {"pedalboard": ("Reverb", ())},
    "coloured-noise": {
        "audiomentations": ("AddColorNoise", ()), "torch_audiomentations": ("AddColoredNoise", ()),
    },
    "time-shift": {"audiomentations": ("Shift", ()), "torch_audiomentations": ("Shift", ())},
    "time-mask": {"audiomentations": ("TimeMask", ())},
    "fade": {"audiomentations": ("GainTransition", ())},
    "polarity": {
        "audiomentations": ("PolarityInversion", ()),
        "torch_audiomentations": ("PolarityInversion", ()),
    },
    "gain": {
        "audiomentations": ("Gain", ()), "torch_audiomentations": ("Gain", ()),
        "pedalboard": ("Gain", (3,)),
    },
}  # fmt: skip
"""The nearest operation of each library, and the arguments it must be given."""


@dataclass(frozen=True, kw_only=True)
class BenchViews:
    """Time every view beside audiomentations, pedalboard and torch-audiomentations.

    Libraries that are not installed (extra `bench`) are listed. The loop over samples calls our own
    view with one clip at a time.
    """

    batch: int = 128
    """Clips in a batch."""
    seconds: float = 0.95
    """Length of a clip, s."""
    rounds: int = 3
    """How often to time each operation, in turn; the median is reported."""
    views: tuple[str, ...] = field(default_factory=view_names)
    """The views to time."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where our views run; auto uses a GPU if there is one. Other libraries use the CPU."""
    json: Path | None = None
    """Write all times to this file."""

    def __post_init__(self) -> None:
        if min(self.batch, self.rounds) < 1 or not self.seconds >= 0.1:
            raise UserError("batch and rounds must be 1 or more, seconds 0.1 or more")
        make_chain(self.views, {})

    def run(self) -> None:
        """Time everything and print a table."""
        device = choose_device(self.device)
        x = torch.randn(self.batch, round(self.seconds * RATE)) * 0.1
        ways = all_ways(self.views, x, device)
        found: dict[tuple[str, str], list[float]] = {}
        for _ in range(self.rounds):
            for key, call in ways.items():
                found.setdefault(key, []).append(timed(call, device))
        times = {key: median(values) for key, values in found.items()}
        say(
            f"{chip(device)}, torch {torch.__version__}, {self.batch} clips of {self.seconds} s; ms"
        )
        say(table(times))
        if self.json:
            with replacing(self.json) as scratch:
                named = [{"view": view, "way": way, "ms": ms} for (view, way), ms in times.items()]
                scratch.write_text(json.dumps({"chip": chip(device), "times": named}, indent=1))


def all_ways(
    views: tuple[str, ...], x: Tensor, device: torch.device
) -> dict[tuple[str, str], Callable[[], object]]:
    """Return what to time by (view, way): our views, other libraries, and the presets."""
    ways: dict[tuple[str, str], Callable[[], object]] = {}
    waves, log_mel = x.numpy(), torch.randn(len(x), x.shape[1] // HOP + 1, MELS)
    for name, view in make_chain(views, {}).items():
        heard = isinstance(view, WaveView)
        chain = {name: replace(view, probability=1.0) if heard else view}
        ways[name, OURS] = ours(chain, x if heard else log_mel, device)
        ways[name, LOOP] = loop(chain, x if heard else log_mel)
        for library, (operation, arguments) in OTHERS.get(name, {}).items():
            if call := other(library, operation, arguments, waves):
                ways[name, library] = call
    for name, chain in WAVE_PRESETS.items():
        ways[name, OURS] = ours(chain, x, device)
        ways[name, LOOP] = loop(chain, x)
    return ways


def ours(chain: Chain, x: Tensor, device: torch.device) -> Callable[[], object]:
    """Return a call that applies a chain to a batch, waveforms [N, T] or log-mel [N, T, F]."""
    bank = Bank(len(x), tuple(x.shape[1:]), device)
    bank.push(x.to(device))
    context = ViewContext(shape=tuple(x.shape[1:]), bank=bank, sample_rate=RATE)
    x = torch.cat([x, x], 1)[:, : needed_samples(chain, x.shape[1], RATE)].to(device)
    draws = draws_of(chain, device)
    keys = torch.from_numpy(sample_keys(0, np.zeros(1), np.arange(len(x)))[0]).to(device)
    return lambda: apply_chain(chain, x, draws(keys), context)


def loop(chain: Chain, x: Tensor) -> Callable[[], object]:
    """Return a call that applies a chain to one clip after the other."""
    one_by_one = [ours(chain, clip[None], torch.device("cpu")) for clip in x]
    return lambda: [call() for call in one_by_one]


def other(
    library: str, operation: str, arguments: tuple[Any, ...], waves: np.ndarray
) -> Callable[[], object] | None:
    """Return a call of another library's operation on a batch [N, T]; None if not installed."""
    try:
        made = getattr(import_module(library), operation)
    except ImportError:
        return None
    if library == "pedalboard":
        if operation == "time_stretch":
            return lambda: [made(wave, float(RATE), *arguments) for wave in waves]
        effect = made(*arguments)
        return lambda: [effect(wave, RATE) for wave in waves]
    if library == "torch_audiomentations":
        batched = made(p=1.0, sample_rate=RATE, output_type="tensor")
        channels = torch.from_numpy(waves)[:, None]
        return lambda: batched(channels, sample_rate=RATE)
    change = made(p=1.0)
    return lambda: [change(wave, sample_rate=RATE) for wave in waves]


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Return the mean time of a call in ms, after a warm-up."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # other libraries warn about clipping and about torch
        call()
        synchronise(device)
        begin, calls = time.perf_counter(), 0
        while not calls or time.perf_counter() - begin < LEAST_S:
            call()
            synchronise(device)
            calls += 1
    return 1000 * (time.perf_counter() - begin) / calls


def table(times: dict[tuple[str, str], float]) -> str:
    """Return a table of times by view and way, with our speed-up over the best other way."""
    ways = list(dict.fromkeys(way for _, way in times))
    lines = [" " * 24 + "".join(f"{way:>23}" for way in ways) + f"{'ratio':>8}"]
    for name in dict.fromkeys(view for view, _ in times):
        cells = [times.get((name, way)) for way in ways]
        best = min(times[name, way] for way in ways if way != OURS and (name, way) in times)
        written = "".join(f"{'-' if ms is None else f'{ms:.2f}':>23}" for ms in cells)
        lines.append(f"{name:<24}{written}{best / times[name, OURS]:>8.1f}")
    missing = sorted({lib for each in OTHERS.values() for lib in each} - {*ways})
    if missing:
        lines.append(f"not installed: {', '.join(missing)}")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(lambda: tyro.cli(BenchViews).run())

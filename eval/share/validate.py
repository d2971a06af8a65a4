"""Validation of HEAR modules by the checks of hear-validator 2021.0.6, each by name.

hear-validator stops at the first failure and needs TensorFlow. Here a failure skips only the checks
that depend on it, and modules must use PyTorch. Each check follows hear-validator's sources.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType, TracebackType
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from audio_barlow_twins.shards.base.cli import Positional, arg, say
from audio_barlow_twins.shards.base.device import device_name

from ..systems.system import parse_options, shape_of

SAMPLE_RATES = (16000, 22050, 32000, 44100, 48000)
TIMESTAMP_CLIPS = 2
TIMESTAMP_LENGTHS_S = (1.07, 1.98, 4.0)
SCENE_CLIPS, SCENE_LENGTH_S = 4, 2.74
LARGEST_SPACING_MS = 50.0
LARGEST_DEVIATION_MS = 1.0

Verdict = Literal["pass", "warn", "fail"]


@dataclass(frozen=True, kw_only=True)
class Validate:
    """Check that a Python module implements the HEAR 2021 API; exit code 1 if it does not."""

    module: Positional[str]
    """Importable name of the module, such as audio_barlow_twins.eval.hear."""
    model: Annotated[str, arg(aliases=("--checkpoint",))] = ""
    """Weights for the module's `load_model`; by default its own."""
    options: tuple[str, ...] = ()
    """Further arguments of `load_model`, each NAME=VALUE; numbers and true, false, null as JSON."""
    device: str | None = None
    """Where to compute, such as cpu or cuda:1; by default a GPU if there is one."""

    def run(self) -> None:
        findings = validate(self.module, self.model, parse_options(self.options), self.device).rows
        width = max(len(row.check) for row in findings)
        for row in findings:
            say(f"{row.verdict}  {row.check.ljust(width)}  {row.why}".rstrip())
        counts = {v: sum(row.verdict == v for row in findings) for v in ("pass", "warn", "fail")}
        say(f"{self.module}: {', '.join(f'{n} {verdict}' for verdict, n in counts.items())}")
        sys.exit(1 if counts["fail"] else 0)


@dataclass(frozen=True)
class Finding:
    check: str
    verdict: Verdict
    why: str = ""


@dataclass
class Findings:
    rows: list[Finding] = field(default_factory=list)

    def check(self, name: str, holds: bool, why: str, otherwise: Verdict = "fail") -> bool:
        """Record a check and return `holds`; `why` is what was found if it does not hold."""
        self.rows.append(Finding(name, "pass") if holds else Finding(name, otherwise, why))
        return holds


class Attempt:
    """Record as a check whether a block runs without an exception.

    An exception in foreign code is a finding about that code, not an error of ours, so that the
    block suppresses it.
    """

    def __init__(self, name: str, findings: Findings) -> None:
        self.name, self.findings, self.done = name, findings, False

    def __enter__(self) -> "Attempt":
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.done = error is None
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        if error is None or isinstance(error, Exception):
            self.findings.check(self.name, self.done, reason)
        return isinstance(error, Exception)


def validate(
    module_name: str,
    weights: str = "",
    options: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> Findings:
    """Check a module against the HEAR 2021 API.

    Args:
        module_name: what to import.
        weights: first argument of its `load_model`; left out if ''.
        options: further arguments of its `load_model`.
        device: for model and audio; by default a GPU if there is one.
    """
    device = device_name(device)
    findings = Findings()
    with Attempt("the module can be imported", findings) as importing:
        module = importlib.import_module(module_name)
    if not importing.done:
        return findings
    model = loaded(module, weights, options or {}, device, findings)
    if model is None or not describes_itself(model, findings):
        return findings
    check_timestamps(module, model, device, findings)
    check_scenes(module, model, device, findings)
    return findings


def loaded(
    module: ModuleType,
    weights: str,
    options: Mapping[str, Any],
    device: str,
    findings: Findings,
) -> nn.Module | None:
    """Call `load_model` and move the model; None if a check failed."""
    load = function_of(module, "load_model", findings)
    if load is None:
        return None
    with Attempt("load_model returns", findings) as loading:
        model = load(*([weights] if weights else []), **options)
    if not loading.done:
        return None
    if not findings.check(
        "the model is a torch.nn.Module",
        isinstance(model, nn.Module),
        f"it is {type(model).__name__}; TensorFlow models need hear-validator itself",
    ):
        return None
    with Attempt(f"the model moves to {device}", findings) as moving:
        model.to(device)
    return model if moving.done else None


def function_of(module: ModuleType, name: str, findings: Findings) -> Callable[..., Any] | None:
    """Return a function of the module; None if the module lacks it, which fails a check."""
    found = getattr(module, name, None)
    exists = findings.check(f"{name} exists", found is not None, "the module lacks it")
    return found if exists else None


def describes_itself(model: nn.Module, findings: Findings) -> bool:
    """Check the model's attributes; return whether its sample rate allows making audio.

    A rate that HEAR does not know is a failure, but allows it.
    """
    lacks = "the model lacks this attribute"
    for name in ("scene_embedding_size", "timestamp_embedding_size"):
        if findings.check(f"{name} exists", hasattr(model, name), lacks):
            size = getattr(model, name)
            findings.check(f"{name} is an int", isinstance(size, int), f"it is {size!r}")
    if not findings.check("sample_rate exists", hasattr(model, "sample_rate"), lacks):
        return False
    rate: Any = model.sample_rate
    wanted = ", ".join(map(str, SAMPLE_RATES))
    findings.check(f"sample_rate is one of {wanted}", rate in SAMPLE_RATES, f"it is {rate!r}")
    return isinstance(rate, int | float) and rate > 0


def noise(clips: int, seconds: float, sample_rate: int, device: str) -> Tensor:
    """Return clips of uniform noise in [-1, 1), float32 [clips, samples]."""
    generator = torch.Generator().manual_seed(0)
    samples = torch.rand(clips, int(seconds * sample_rate), generator=generator)
    return (2 * samples - 1).to(device)


def check_timestamps(module: ModuleType, model: Any, device: str, findings: Findings) -> None:
    name = "get_timestamp_embeddings"
    embed = function_of(module, name, findings)
    if embed is None:
        return
    for seconds in TIMESTAMP_LENGTHS_S:
        what = f"{name}, {seconds} s"
        audio = noise(TIMESTAMP_CLIPS, seconds, model.sample_rate, device)
        with Attempt(f"{what}: returns two tensors", findings) as call:
            embeddings, timestamps = embed(audio, model)
            values, times_ms = embeddings.detach().cpu(), timestamps.detach().cpu().numpy()
        if not call.done:
            continue
        size = getattr(model, "timestamp_embedding_size", None)
        check_embeddings(values, (TIMESTAMP_CLIPS, None, size), what, findings)
        two = findings.check(
            f"{what}: timestamps have 2 axes", times_ms.ndim == 2, f"shape {shape_of(times_ms)}"
        )
        each = findings.check(
            f"{what}: a timestamp for each embedding",
            times_ms.shape == tuple(values.shape[:2]),
            f"embeddings are {shape_of(values)}, timestamps {shape_of(times_ms)}",
        )
        if two and each and times_ms.shape[1] > 1:
            check_times(times_ms, 1000 * seconds, what, findings)


def check_times(times_ms: np.ndarray, length_ms: float, what: str, findings: Findings) -> None:
    """Check timestamps, float [clips, T > 1], of clips with a length of `length_ms`."""
    spacing = np.diff(times_ms)
    mean, first, last = spacing.mean(), times_ms.min(), times_ms.max()
    deviation = np.abs(spacing - mean).max()
    findings.check(
        f"{what}: timestamps at most {LARGEST_SPACING_MS:g} ms apart",
        bool(spacing.max() <= LARGEST_SPACING_MS),
        f"up to {spacing.max():g} ms; too far for music transcription",
        otherwise="warn",
    )
    findings.check(
        f"{what}: timestamps evenly spaced",
        bool(deviation <= LARGEST_DEVIATION_MS),
        f"{deviation:g} ms off the mean of {mean:g} ms, allowed is {LARGEST_DEVIATION_MS:g}",
    )
    findings.check(
        f"{what}: timestamps start with the clip",
        bool(first <= mean),
        f"the first is at {first:g} ms",
        otherwise="warn",
    )
    findings.check(
        f"{what}: timestamps reach the end",
        bool(last >= length_ms - min(mean, LARGEST_SPACING_MS)),
        f"the last is at {last:g} of {length_ms:g} ms; later events have no embedding",
        otherwise="warn",
    )
    findings.check(
        f"{what}: timestamps stay inside the clip",
        bool(last <= length_ms),
        f"the last is at {last:g} of {length_ms:g} ms",
    )


def check_scenes(module: ModuleType, model: Any, device: str, findings: Findings) -> None:
    name = "get_scene_embeddings"
    embed = function_of(module, name, findings)
    if embed is None:
        return
    what = f"{name}, {SCENE_LENGTH_S} s"
    with Attempt(f"{what}: returns a tensor", findings) as call:
        audio = noise(SCENE_CLIPS, SCENE_LENGTH_S, model.sample_rate, device)
        values = embed(audio, model).detach().cpu()
    if call.done:
        size = getattr(model, "scene_embedding_size", None)
        check_embeddings(values, (SCENE_CLIPS, size), what, findings)


def check_embeddings(
    values: Tensor, wanted: tuple[int | None, ...], what: str, findings: Findings
) -> None:
    """Check type and shape; `wanted` is clips, any number of timestamps (None), features."""
    found = f"shape {shape_of(values)}"
    findings.check(
        f"{what}: embeddings are float32", values.dtype == torch.float32, f"{values.dtype}"
    )
    axes = len(wanted)
    if not findings.check(f"{what}: embeddings have {axes} axes", values.ndim == axes, found):
        return
    clips, size = wanted[0], wanted[-1]
    findings.check(f"{what}: {clips} clips in, {clips} out", len(values) == clips, found)
    findings.check(
        f"{what}: embeddings have the size that the model states",
        values.shape[-1] == size,
        f"{found}, the model states {size}",
    )

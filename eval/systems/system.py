"""Any module with the HEAR 2021 API as a system to score, behind one interface that checks it."""

import hashlib
import importlib
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audio_barlow_twins.model.embedder import Embedder
from audio_barlow_twins.shards.base.device import device_name, exact_products, on_device
from audio_barlow_twins.shards.base.digest import digest_of
from audio_barlow_twins.shards.base.errors import UserError

from ..hear import get_scene_embeddings, get_timestamp_embeddings
from .code_digest import code_of

SAMPLES_PER_PASS = 0.7 * 120 * 16000
"""Samples that heareval passes to a module at once, 84 s at 16 kHz."""


def parse_options(options: Sequence[str]) -> dict[str, Any]:
    """Parse NAME=VALUE options into keyword arguments; a VALUE that is not JSON is text."""
    parsed = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not (name and equals):
            raise UserError(f"option {option!r} is not NAME=VALUE, such as batch=8")
        try:
            parsed[name] = json.loads(text)
        except ValueError:
            parsed[name] = text
    return parsed


@dataclass(frozen=True, kw_only=True)
class SystemSpec:
    """A HEAR module and the arguments of its `load_model`, as plain text."""

    name: str
    """Row of the report."""
    module: str
    """Importable name, such as audio_barlow_twins.eval.hear."""
    model: str = ""
    """Weights, the first argument of `load_model`; left out if ''."""
    options: tuple[str, ...] = ()
    """Further arguments of `load_model`, each NAME=VALUE."""

    def __post_init__(self) -> None:
        parse_options(self.options)
        if not all(part.isidentifier() for part in self.module.split(".")):
            raise UserError(
                f"module is {self.module!r}; wanted a name that can be imported, such as "
                "audio_barlow_twins.eval.hear"
            )

    def fingerprint(self) -> str:
        """Digest all that affects the embeddings: code, weights and options; 16 hex digits.

        Weights count by content, not by path. Those that the module finds itself count if it has a
        function `default_weights` that takes the options and returns their path.

        Raises:
            UserError: the module cannot be imported.
        """
        options = parse_options(self.options)
        find = getattr(self._imported(), "default_weights", None)
        try:
            weights = self.model or (str(find(**options)) if find else "")
        except UserError as error:
            raise UserError(f"{self.name}: {error}") from error
        parts = {
            "module": self.module,
            "code": code_of(self.module),
            "weights": content_of(weights),
            "options": {name: content_of(value) for name, value in options.items()},
        }
        return digest_of(parts, 8)

    def load(self, device: str | None = None) -> "LoadedSystem":
        """Load the model onto a device, by default a GPU if there is one.

        Raises:
            UserError: the module cannot be loaded, or is not a HEAR module; names the system.
        """
        module = self._imported()
        load, scenes, timestamps = (
            self._function(module, name)
            for name in ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")
        )
        weights, options = [self.model] if self.model else [], parse_options(self.options)
        try:
            inspect.signature(load).bind(*weights, **options)
        except TypeError as error:
            raise UserError(f"{self.name}: load_model of {self.module}: {error}") from error
        try:
            with torch.random.fork_rng(_gpus(device)):  # weights may be drawn
                model = load(*weights, **options)
            if not isinstance(model, nn.Module):
                kind = type(model).__name__
                raise UserError(f"load_model of {self.module} gives a {kind}, no torch.nn.Module")
            model = on_device(model, device)
        except UserError as error:
            raise UserError(f"{self.name}: {error}") from error
        return LoadedSystem(self.name, model, scenes, timestamps, torch.device(device_name(device)))

    def _imported(self) -> ModuleType:
        try:
            return importlib.import_module(self.module)
        except ImportError as error:
            raise UserError(
                f"{self.name}: module {self.module} cannot be imported: {error}; install what is "
                "missing, or put its folder on PYTHONPATH"
            ) from error

    def _function(self, module: ModuleType, name: str) -> Callable[..., Any]:
        if not hasattr(module, name):
            raise UserError(
                f"{self.name}: module {self.module} has no {name}, so it is no HEAR module; "
                f"`abt eval validate {self.module}` lists all that is wrong"
            )
        return getattr(module, name)


class LoadedSystem:
    """A HEAR model in evaluation mode that checks what the module returns.

    Its audio is at `sample_rate` (Hz); it runs on `device`.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        scenes: Callable[..., Tensor],
        timestamps: Callable[..., tuple[Tensor, Tensor]],
        device: torch.device,
    ) -> None:
        self.name, self.device = name, device
        self._model, self._scenes, self._timestamps = model.eval(), scenes, timestamps
        rate: Any = getattr(model, "sample_rate", None)
        if not isinstance(rate, int | float) or rate <= 0:
            raise UserError(f"{name}: sample_rate of the model is {rate!r}; wanted Hz, as 16000")
        self.sample_rate = int(rate)

    @classmethod
    def of(cls, name: str, model: Embedder) -> "LoadedSystem":
        return cls(name, model, get_scene_embeddings, get_timestamp_embeddings, model.device)

    @torch.no_grad()
    def scenes(self, audio: Tensor) -> Tensor:
        """Embed each clip as a whole.

        Args:
            audio: float32 [N, samples] in [-1, 1] at `sample_rate`, on any device.

        Returns:
            float32 [N, D] on `device`; see `check_finite`.

        Raises:
            UserError: the module returned another type or shape.
        """
        with exact_products():
            found = self._scenes(audio.to(self.device), self._model)
        self._check("scene embeddings", found, (len(audio), None))
        return found.to(self.device)

    @torch.no_grad()
    def timestamps(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Embed each clip at the timestamps that the module chooses.

        Args:
            audio: float32 [N, samples] in [-1, 1] at `sample_rate`, on any device.

        Returns:
            Embeddings float32 [N, T, D] on `device`, times in ms [N, T] on any; see `check_finite`.

        Raises:
            UserError: the module returned another type or shape.
        """
        with exact_products():
            found, times_ms = self._timestamps(audio.to(self.device), self._model)
        self._check("timestamp embeddings", found, (len(audio), None, None))
        if times_ms.shape != found.shape[:2]:
            raise UserError(
                f"{self.name}: timestamps are {shape_of(times_ms)} for embeddings "
                f"{shape_of(found)}; wanted one for each"
            )
        return found.to(self.device), times_ms

    def check_finite(self, what: str, values: Tensor) -> None:
        """Refuse values that are not finite; a GPU is waited for, so ask once they are fetched."""
        if not values.isfinite().all():
            raise UserError(f"{self.name}: {what} are not finite")

    def clips_per_pass(self, n_samples: int) -> int:
        """Return how many clips of a length to embed at once: the model's limit, or heareval's."""
        own = getattr(self._model, "clips_per_pass", None)
        return own(n_samples) if callable(own) else max(1, int(SAMPLES_PER_PASS / n_samples))

    def _check(self, what: str, found: Tensor, wanted: tuple[int | None, ...]) -> None:
        """Refuse embeddings of another type or shape (None: any length).

        Their width may differ from the model's attribute: only `abt eval validate` compares them.
        """
        fits = found.ndim == len(wanted) and len(found) == wanted[0]
        if found.dtype != torch.float32 or not fits or not found.shape[1]:
            axes = "N x D" if len(wanted) == 2 else "N x T x D"
            raise UserError(
                f"{self.name}: {what} of {wanted[0]} clips are {found.dtype} of shape "
                f"{shape_of(found)}; wanted torch.float32 {axes}"
            )


def _gpus(device: str | None) -> Sequence[int]:
    """Number the GPUs whose random numbers count: for the CPU none, so that CUDA is not started."""
    return range(torch.cuda.device_count() if device_name(device).startswith("cuda") else 0)


def content_of(value: Any) -> Any:
    """Return the digest of a file's or folder's content for its path, and other values as given."""
    if not isinstance(value, str) or not value or not Path(value).exists():
        return value
    place, digest = Path(value), hashlib.blake2b(digest_size=16)
    files = sorted(place.rglob("*")) if place.is_dir() else [place]
    for path in files:
        if path.is_file():
            digest.update(f"{path.relative_to(place)}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while chunk := file.read(2**20):
                    digest.update(chunk)
    return digest.hexdigest()


def shape_of(values: Tensor | np.ndarray) -> str:
    """Format a shape, such as "2 x 20 x 512"."""
    return " x ".join(map(str, values.shape)) or "a single number"

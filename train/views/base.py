"""Base classes of views: options, the numbers that each sample draws, and the change of a batch.

A new view is one class in any module; once that is imported, training, the command line and the
tools know its name:

    class Hum(WaveView, name="hum"):
        '''Add the hum of the mains.'''

        level: tuple[float, float] = span(0.01, 0.1, inside=(0, 1), mild=0)
        '''Smallest and largest amplitude of the hum.'''

        def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
            time = torch.arange(x.shape[1], device=x.device) / context.sample_rate
            return x + drawn["level"][:, None] * torch.sin(314 * time)

    abt --import my_views train demo --views hum mixup --ranges.hum.level 0 0.05

A view that draws more than one number from each of its ranges says so in `numbers`, and turns what
was drawn into what it uses in `derive`; `draws.py` has what they are made of (Range, WORD, below,
normals).

Nothing in a view may wait for the device. The result for a sample may depend only on its own
numbers, not on its place in the batch or on other samples.
"""

import math
import re
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, dataclass_transform

import torch
from torch import Tensor
from torch.nn.functional import pad

from audio_barlow_twins.shards.base.errors import UserError

from .bank import Bank
from .draws import Draws, Numbers, Range

Drawn = dict[str, Tensor]
"""Numbers of N samples by name, each [N] or [N, …]."""
VIEWS: dict[str, type["View"]] = {}
"""All views that are defined, by name."""


@dataclass(frozen=True)
class Span:
    """How to draw numbers from an option that is a range; see `span`."""

    octaves: bool
    mild: float | None


def span(
    low: float,
    high: float,
    *,
    inside: tuple[float, float] = (-math.inf, math.inf),
    mild: float | None = None,
    octaves: bool = False,
) -> Any:
    """Declare an option that is a range, from which every sample draws its own number.

    Args:
        low, high: the default.
        inside: the smallest and largest value that the range may contain.
        mild: number at which the view does next to nothing; `abt train listen` starts there.
        octaves: draw uniformly on a logarithmic scale.
    """
    metadata = {"inside": inside, "span": Span(octaves, mild)}
    return field(default=(float(low), float(high)), metadata=metadata)


def number(default: float, *, inside: tuple[float, float]) -> Any:
    """Declare an option that is one number, the same for all samples, in the range `inside`."""
    return field(default=default, metadata={"inside": inside})


@dataclass(frozen=True, kw_only=True)
class ViewContext:
    """What a view may use of the run."""

    shape: tuple[int, ...]
    """Of a clip after the views: (samples,), or (frames, mel bins)."""
    bank: Bank
    """Earlier clips of this shape, for views that have a `memory`."""
    sample_rate: int = 16000


@dataclass_transform(kw_only_default=True, frozen_default=True)
@dataclass(frozen=True, kw_only=True)
class View:
    """A random change of a batch of clips on its device; derive from WaveView or LogmelView.

    Subclasses become frozen dataclasses, and those with a `name` are registered.
    """

    name: ClassVar[str] = ""
    """Its name in `--views` and `--ranges.NAME`."""
    text: ClassVar[str] = ""
    """Format string by which `describe` writes a sample's numbers."""
    spans: ClassVar[dict[str, Span]] = {}
    """The options that are ranges."""
    memory = 0
    """Number of earlier clips that the bank must hold; an option of views that use them."""

    def __init_subclass__(cls, name: str = "") -> None:
        if "draw" in cls.__dict__:
            raise UserError(
                f"{cls.__qualname__} has a method `draw`, which became two: `numbers` says what to "
                "draw, `derive` turns that into what `change` uses"
            )
        dataclass(frozen=True, kw_only=True)(cls)
        metadata = {option.name: option.metadata for option in fields(cls)}
        cls.spans = {key: each["span"] for key, each in metadata.items() if "span" in each}
        cls.name = name
        if name:
            _register(name, cls)

    def __post_init__(self) -> None:
        for option in fields(self):
            if "inside" in option.metadata:
                self._check(option.name, *option.metadata["inside"])

    def __call__(self, x: Tensor, drawn: Drawn, context: ViewContext) -> tuple[Tensor, Drawn]:
        """Change samples by the numbers drawn for them; return them and what `derive` returned."""
        drawn = self.derive(drawn, context)
        return self.change(x, drawn, context), drawn

    def numbers(self) -> Numbers:
        """Return what to draw for every sample: one number from each range."""
        return {option: self.range_of(option) for option in self.spans}

    def all_numbers(self) -> Numbers:
        """Return what is drawn, whatever a view does in `numbers`."""
        return self.numbers()

    def range_of(self, option: str) -> Range:
        """Return an option that is a range, as something to draw from."""
        low, high = getattr(self, option)
        return Range(low, high, self.spans[option].octaves)

    def derive(self, drawn: Drawn, context: ViewContext) -> Drawn:
        """Return what `change` and `phrase` use, from the `numbers` that were drawn."""
        return drawn

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        """Change every sample, float32 [N, T] or [N, T, F]."""
        raise NotImplementedError

    def needed(self, n_out: int, sample_rate: int) -> int:
        """Return how many samples a clip needs for `n_out` samples without zeros at the end."""
        return n_out

    def describe(self, drawn: Drawn) -> list[str]:
        """Return what was done to each sample, '' if nothing; waits for the device."""
        table = {name: values.tolist() for name, values in drawn.items()}
        rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
        return [self.phrase(row) if row.get("applied", True) else "" for row in rows]

    def phrase(self, row: dict[str, Any]) -> str:
        """Return one sample's numbers in `text`, or without a text their names and values."""
        listed = (f"{option} {row[option]:.3g}" for option in self.spans if option in row)
        return (self.text or " ".join([self.name, *listed])).format(name=self.name, **row)

    def _check(self, option: str, low: float, high: float) -> None:
        given = getattr(self, option)
        first, last = given if isinstance(given, tuple) else (given, given)
        if option in self.spans and self.spans[option].octaves and first <= 0:
            raise UserError(
                f"{self.name}.{option} is {given}, drawn by octaves; choose numbers above 0"
            )
        if low <= first <= last <= high and math.isfinite(first) and math.isfinite(last):
            return
        wanted = "smallest and largest" if isinstance(given, tuple) else "a number"
        raise UserError(
            f"{self.name}.{option} is {given}; choose {wanted} from [{low:g}, {high:g}]"
        )


class WaveView(View):
    """A random change of waveforms, float32 [N, T] to [N, T], or to the context's length."""

    probability: float = number(0.5, inside=(0, 1))
    """Share of samples that are changed, 0 to 1."""

    def __call__(self, x: Tensor, drawn: Drawn, context: ViewContext) -> tuple[Tensor, Drawn]:
        """Change the samples that `applied` names; the others draw as many numbers but stay."""
        applied = drawn["applied"] < self.probability
        drawn = {name: values for name, values in drawn.items() if name != "applied"}
        changed, drawn = super().__call__(x, drawn, context)
        x = torch.where(applied[:, None], changed, fit(x, changed.shape[1]))
        return x, {"applied": applied} | drawn

    def all_numbers(self) -> Numbers:
        return {"applied": Range(0, 1)} | self.numbers()


class LogmelView(View):
    """A random change of normalised log-mel, float32 [N, T, F] to [N, T, F]."""


Chain = dict[str, View]
"""Views by their names, in the order in which they are applied."""


def draws_of(chain: Chain, device: torch.device | None = None) -> Draws:
    """Return what draws all numbers of a chain."""
    return Draws({name: view.all_numbers() for name, view in chain.items()}, device)


def _register(name: str, view: type[View]) -> None:
    """Register a view; a class that is defined again, as in a notebook, replaces itself.

    Raises:
        UserError: another view has this name, or it is not fit for a command line.
    """
    if not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", name):
        raise UserError(f"a view is called {name!r}; write it like time-shift")
    other = VIEWS.get(name, view)
    if (other.__module__, other.__qualname__) != (view.__module__, view.__qualname__):
        raise UserError(
            f"{view.__module__}.{view.__qualname__} and {other.__module__}.{other.__qualname__} "
            f"are both called {name}; choose another name"
        )
    VIEWS[name] = view


def fit(x: Tensor, n_samples: int) -> Tensor:
    """Cut waveforms [N, T] to a length, or pad them with zeros at the end."""
    return x if x.shape[1] == n_samples else pad(x, (0, n_samples - x.shape[1]))

"""All encoders by name: how to build them, and their options (KEY=VALUE)."""

import inspect
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Literal, get_args, get_origin

from torch import nn

from .audiontt import AudioNTT
from .resnet import ResNet18
from .vit import DEPTHS, STRIDES, ViT, depth_of

Size = int | float | str
"""An argument of an encoder's constructor, as checkpoints store it."""

VIT_SIZES: dict[str, dict[str, Any]] = {
    "b": {"dim": 768, "heads": 12},
    "s": {"dim": 384, "heads": 6},
    "t": {"dim": 192, "heads": 3},
}
DEFAULTED = "depth"
"""Argument of which a name gives only the default; all others that it gives are no options."""


def _encoders() -> dict[str, partial[Any]]:
    """Return the constructors with the arguments that names fix, or of which they give defaults."""
    found: dict[str, partial[Any]] = {
        "audiontt": partial(AudioNTT, blocks=2, stack=True, hidden=None)
    }
    for width in (512, 1024, 2048):
        found[f"audiontt2020-{width}"] = partial(
            AudioNTT, blocks=3, stack=False, hidden=None, width=width
        )
    for letter, size in VIT_SIZES.items():
        for patch in STRIDES:
            found[f"vitc-{letter}-{patch}"] = partial(
                ViT, stem="conv", depth=DEPTHS["conv"], projection="trained", patch=patch, **size
            )
            found[f"vit-{letter}-{patch}"] = partial(
                ViT, stem="plain", depth=DEPTHS["plain"], patch=patch, **size
            )
    found["resnet18"] = partial(ResNet18, regp_nrf=False)
    found["resnet18-regp-nrf"] = partial(ResNet18, regp_nrf=True)
    return found


ENCODERS: dict[str, partial[Any]] = _encoders()
"""Constructors by name; each takes `n_mels` and returns a module with `out_features` that maps
normalised log-mel [N, T, n_mels] to [N, out_features]."""


def build_encoder(name: str, sizes: Mapping[str, Size]) -> nn.Module:
    """Return an untrained encoder, from its registered name and its constructor's arguments."""
    return _constructor(name)(**sizes)


def encoder_options(name: str, texts: Iterable[str]) -> dict[str, Size]:
    """Parse texts such as `pool=mean` into keyword arguments of an encoder.

    Raises:
        ValueError: an option is unknown or has an unusable value; the message lists the choices.
    """
    options = _options(name)
    found: dict[str, Size] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or key not in options:
            known = ", ".join(f"{key}={kind}" for key, kind in option_kinds(name).items())
            raise ValueError(f"encoder option is {text!r}; {name} takes {known or 'none'}")
        found[key] = _read(value, options[key], f"option {key} of {name}")
    return found


def default_options(name: str) -> dict[str, Size]:
    """Return the values that the options of an encoder have if none are given.

    A checkpoint that names them stays what it is when a later version has other defaults.
    """
    arguments = inspect.signature(_constructor(name)).parameters
    return {key: arguments[key].default for key in _options(name)}


def completed_sizes(name: str, sizes: Mapping[str, Size], keys: Iterable[str]) -> dict[str, Size]:
    """Return the sizes of a checkpoint with what versions up to 0.2 did not write down.

    They wrote only options that were given. Since then the number of a ViT_C's blocks, which was
    12, and the training of a plain ViT's projection have other defaults.

    Args:
        name: of the encoder.
        sizes: as the checkpoint has them.
        keys: of its state dict.
    """
    then: dict[str, Size] = {"depth": depth_of(keys), "projection": "trained"}
    options = option_kinds(name) if name in ENCODERS else {}
    return {key: value for key, value in then.items() if key in options} | dict(sizes)


def option_kinds(name: str) -> dict[str, str]:
    """Return what each option of an encoder takes, such as `cls|mean` or `int`."""
    return {key: _kind(type_) for key, type_ in _options(name).items()}


def _constructor(name: str) -> partial[Any]:
    if name not in ENCODERS:
        raise ValueError(f"no encoder is called {name!r}; choose from {', '.join(ENCODERS)}")
    return ENCODERS[name]


def _options(name: str) -> dict[str, Any]:
    """Return the types of the arguments that a name leaves open, without the front-end's."""
    constructor = _constructor(name)
    arguments = inspect.signature(constructor.func, eval_str=True).parameters
    closed = {*constructor.keywords, "n_mels"} - {DEFAULTED}
    return {key: arguments[key].annotation for key in arguments if key not in closed}


def _kind(type_: Any) -> str:
    return "|".join(get_args(type_)) if get_origin(type_) is Literal else type_.__name__


def _read(text: str, type_: Any, what: str) -> Size:
    """Parse the value of an option; whole numbers are sizes, so 1 or more."""
    kind = _kind(type_)
    if get_origin(type_) is Literal:
        if text in get_args(type_):
            return text
    else:
        with suppress(ValueError):
            value = type_(text)
            if type_ is not int or value >= 1:
                return value
        kind += " of 1 or more" * (type_ is int)
    raise ValueError(f"{what} is {text!r}; wanted {kind}")

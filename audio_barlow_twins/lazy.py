"""The public names of a package, each imported when it is first used."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def lazily(package: str, where: Mapping[str, str]) -> tuple[list[str], Callable[[str], object]]:
    """Return `__all__` and `__getattr__` for a package that re-exports names of its modules.

    Importing the package stays cheap: a module is imported when one of its names is first used.

    Args:
        package: its `__name__`.
        where: the module of each public name, relative to the package: `{"CropReader": ".reader"}`.
    """

    def get(name: str) -> object:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(where[name], package), name)
        setattr(sys.modules[package], name, value)
        return value

    return sorted(where), get

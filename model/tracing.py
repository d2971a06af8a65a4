"""What tracing for torch.export needs so that any number of clips and frames goes in."""

from collections.abc import Iterator
from contextlib import contextmanager
from operator import floordiv
from typing import Any
from unittest.mock import patch

from torch import _meta_registrations
from torch.fx.experimental import _config


@contextmanager
def open_sizes() -> Iterator[None]:
    """Trace dynamic sizes without fixing whether one is 1, or divisible by a pooling's stride.

    By default the tracer takes 1 for a special size. Up to torch 2.11 it also floors a pooled size
    by way of the remainder, which then holds for all sizes; Python's `//` floors by itself.
    """
    config: Any = _config
    with (
        config.patch(backed_size_oblivious=True),
        patch.object(_meta_registrations, "div_rtn", floordiv),
    ):
        yield

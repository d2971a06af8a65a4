"""The cache folder of resampled clips and embeddings."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audio_barlow_twins.shards.base.errors import UserError


def default_cache() -> Path:
    """Return the default folder, below XDG_CACHE_HOME or ~/.cache."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "audio-barlow-twins" / "hear"


@contextmanager
def caching(place: Path) -> Iterator[None]:
    """Raise UserError, with a remedy, where `place` cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{place}: cannot be written: {error.strerror or error}; name another folder "
            "with --cache"
        ) from error

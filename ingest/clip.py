"""One planned clip, and the key that names it inside a tar."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

KEY_LENGTH = 80
"""Longest readable part of a key; a tar header holds 100 bytes with the ending."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """What a source promises: one piece of audio and what is known about it."""

    key: str
    """Name inside the tar."""
    path: str
    """File to decode."""
    origin: str
    """The file as people know it: relative to the source's folder, valid UTF-8."""
    labels: tuple[str, ...] = ()
    """Class labels."""


def clip_keys(origins: Sequence[str]) -> list[str]:
    """Name clips after their files: a pure function of the relative paths.

    WebDataset cuts a member's name at the first dot and groups by it, so a key has neither dot nor
    slash. A name that had to be changed, or that two files share, gets a hash of its path.
    """
    plain = [re.sub(r"\.[^./]*$", "", origin) for origin in origins]
    names = [re.sub(r"[^A-Za-z0-9_-]", "_", name.replace("/", "__")) for name in plain]
    shared = Counter(names)
    return [
        name
        if name == stem.replace("/", "__") and shared[name] == 1 and 0 < len(name) <= KEY_LENGTH
        else f"{name[:KEY_LENGTH]}-{_short_hash(origin)}"
        for name, stem, origin in zip(names, plain, origins, strict=True)
    ]


def _short_hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()

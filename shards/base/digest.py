"""Short names for content: BLAKE2b as hexadecimal digits."""

import hashlib
import json
from typing import Any


def digest(content: bytes | str, size: int = 16) -> str:
    """Return a hash of bytes, or of text as UTF-8, in 2 * `size` hex digits."""
    data = content.encode() if isinstance(content, str) else content
    return hashlib.blake2b(data, digest_size=size).hexdigest()


def digest_of(value: Any, size: int = 16) -> str:
    """Return the `digest` of plain values; the order of keys does not matter."""
    return digest(json.dumps(value, sort_keys=True, default=str), size)

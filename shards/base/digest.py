"""Short names for content: BLAKE2b as hexadecimal digits."""

import hashlib
import json
from typing import Any


def digest(content: bytes | str, size: int = 16) -> str:
    """Hash bytes, or text as UTF-8, to 2 * `size` hex digits."""
    data = content.encode() if isinstance(content, str) else content
    return hashlib.blake2b(data, digest_size=size).hexdigest()


def digest_of(value: Any, size: int = 16) -> str:
    """Hash plain values independently of the order of keys, to 2 * `size` hex digits."""
    return digest(json.dumps(value, sort_keys=True, default=str), size)

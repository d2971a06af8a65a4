"""MP3 files that were joined by `cat`: the tag of the second one lies between the frames."""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_TAG = re.compile(rb"ID3[\2-\4][\0-\x0f][\0-\xff]([\0-\x7f]{4})", re.DOTALL)
"""The head of an ID3v2 tag: version, flags, and four times seven bits of its length."""
LARGEST = 1 << 32
"""Largest MP3 that is looked through, bytes: four days of sound."""
BLOCK, HEAD_BYTES = 1 << 20, 10
"""Bytes that are looked through at a time, and those of a tag's head."""
_FRAME = re.compile(rb"\xff[\xe2-\xff]")
"""The first two bytes of an MPEG frame."""


def inner_tags(path: str, head: bytes) -> list[tuple[int, int]]:
    """Return begin and end of the tags in an MP3 behind the first that a frame or tag follows.

    Players skip them; ffmpeg takes them for damage.

    Args:
        path: a file; one that is no MP3 has none.
        head: its first bytes.
    """
    is_mp3 = head.startswith(b"ID3") or _FRAME.match(head)
    if not is_mp3 or os.path.getsize(path) > LARGEST:
        return []
    found: list[tuple[int, int]] = []
    with open(path, "rb") as file:
        position, rest = 0, b""
        while block := file.read(BLOCK):
            window, base = rest + block, position - len(rest)
            for tag in _TAG.finditer(window):
                begin, end = base + tag.start(), base + tag.end() + _length(tag[1])
                behind = os.pread(file.fileno(), 3, end)
                if begin and (_FRAME.match(behind) or behind == b"ID3"):
                    found.append((begin, end))
            position, rest = position + len(block), window[-(HEAD_BYTES - 1) :]
    return found


def _length(sevens: bytes) -> int:
    length = 0
    for byte in sevens:
        length = length << 7 | byte
    return length


@contextmanager
def without(path: str, tags: Sequence[tuple[int, int]]) -> Iterator[str | None]:
    """Yield a copy of an MP3 without these tags; None if there are none."""
    if not tags:
        yield None
        return
    with tempfile.NamedTemporaryFile(suffix=".mp3") as copy, open(path, "rb") as file:
        position = 0
        for begin, end in [*tags, (os.path.getsize(path), 0)]:
            file.seek(position)
            copy.write(file.read(max(begin - position, 0)))
            position = max(position, end)
        copy.flush()
        yield copy.name

"""MP3 files that were joined by `cat`: the tag of the second one lies between the frames."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap

_TAG = re.compile(rb"ID3[\2-\4][\0-\x0f][\0-\xff]([\0-\x7f]{4})", re.DOTALL)
"""The head of an ID3v2 tag: version, flags, and four times seven bits of its length."""
LARGEST = 1 << 32
"""Largest MP3 that is looked through, bytes: four days of sound."""
_FRAME = re.compile(rb"\xff[\xe2-\xff]")
"""The first two bytes of an MPEG frame."""


def _inner_tags(content: mmap) -> Iterator[tuple[int, int]]:
    """Yield begin and end of tags behind the first one that a frame or another tag follows."""
    for head in _TAG.finditer(content):
        length = 0
        for byte in head[1]:
            length = length << 7 | byte
        begin, end = head.start(), head.end() + length
        if begin and (_FRAME.match(content, end) or content[end : end + 3] == b"ID3"):
            yield begin, end


@contextmanager
def without_inner_tags(path: str, head: bytes) -> Iterator[str | None]:
    """Yield a copy of an MP3 without the tags between its frames; None if there are none.

    Players skip such tags; ffmpeg takes them for damage.

    Args:
        path: a file.
        head: its first bytes.
    """
    is_mp3 = head.startswith(b"ID3") or _FRAME.match(head)
    if not is_mp3 or os.path.getsize(path) > LARGEST:
        yield None
        return
    with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        tags = list(_inner_tags(content))
        if not tags:
            yield None
            return
        with tempfile.NamedTemporaryFile(suffix=".mp3") as copy:
            position = 0
            for begin, end in tags:
                copy.write(content[position:begin])
                position = max(position, end)
            copy.write(content[position:])
            copy.flush()
            yield copy.name

"""MP3 and Ogg files that were joined by `cat`: what begins anew in the middle of them."""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

_TAG = re.compile(rb"ID3[\2-\4][\0-\x0f][\0-\xff]([\0-\x7f]{4})", re.DOTALL)
"""The head of an ID3v2 tag: version, flags, and four times seven bits of its length."""
LARGEST = 1 << 32
"""Largest MP3 that is looked through, bytes: four days of sound."""
BLOCK, HEAD_BYTES = 1 << 20, 10
"""Bytes that are looked through at a time, and those of a tag's head."""
_PAGE = re.compile(rb"OggS\0([\0-\7])(.{8})(.{4})", re.DOTALL)
"""The head of an Ogg page: flags, granule position (a time stamp) and number of the stream."""
PAGE_BYTES = 18
_BEGINS = 2
"""Flag of a stream's first page."""
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
        for begin, tag in _matches(file, _TAG, HEAD_BYTES):
            end = begin + HEAD_BYTES + _length(tag[1])
            behind = os.pread(file.fileno(), 3, end)
            if begin and (_FRAME.match(behind) or behind == b"ID3"):
                found.append((begin, end))
    return found


def goes_back(path: str) -> bool:
    """Tell whether time stamps of an Ogg file do not tell one place from another.

    Where files were joined, streams begin anew in the middle, or granule positions go back.
    """
    latest = dict[bytes, int]()
    begun = False
    with open(path, "rb") as file:
        for _, page in _matches(file, _PAGE, PAGE_BYTES):
            granule = int.from_bytes(page[2], "little", signed=True)
            is_first = bool(page[1][0] & _BEGINS)
            if (is_first and begun) or 0 <= granule < latest.get(page[3], 0):
                return True
            begun = begun or not is_first
            latest[page[3]] = max(granule, latest.get(page[3], 0))
    return False


def _matches(
    file: BinaryIO, pattern: re.Pattern[bytes], size: int
) -> Iterator[tuple[int, re.Match[bytes]]]:
    """Yield the place and the match of a pattern of `size` bytes in a file of any length."""
    position, rest = 0, b""
    while block := file.read(BLOCK):
        window, base = rest + block, position - len(rest)
        for match in pattern.finditer(window):
            yield base + match.start(), match
        position, rest = position + len(block), window[-(size - 1) :]


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

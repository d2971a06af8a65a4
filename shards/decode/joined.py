"""MP3 files that were joined by `cat`: the tag of the second one lies between the frames."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TAG = re.compile(rb"ID3[\2-\4][\0-\x0f][\0-\xff]([\0-\x7f]{4})", re.DOTALL)
"""The head of an ID3v2 tag: version, flags, and four times seven bits of its length."""
_FRAME = re.compile(rb"\xff[\xe2-\xff]")
"""The first two bytes of an MPEG frame."""


def _inner_tags(content: bytes) -> list[tuple[int, int]]:
    """Return begin and end of tags behind the first frame that a frame or another tag follows."""
    found: list[tuple[int, int]] = []
    for head in _TAG.finditer(content):
        length = 0
        for byte in head[1]:
            length = length << 7 | byte
        begin, end = head.start(), head.end() + length
        if begin and (_FRAME.match(content, end) or content.startswith(b"ID3", end)):
            found.append((begin, end))
    return found


@contextmanager
def without_inner_tags(path: str) -> Iterator[str | None]:
    """Yield a copy of an MP3 without the tags between its frames; None if it has none.

    Players skip such tags; ffmpeg takes them for damage.
    """
    content = Path(path).read_bytes()
    tags = _inner_tags(content) if _FRAME.match(content) or content.startswith(b"ID3") else []
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

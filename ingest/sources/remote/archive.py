"""A file behind an HTTP URL: read by ranges of bytes, or in order from a server without them."""

import io
import re
from functools import cache
from typing import Any

from ...errors import NetworkTrouble, Unreadable
from .client import answered, blocks, in_time, trying
from .stream import stream_of

_PART = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_NONE = re.compile(r"bytes \*/(\d+)")


class Archive:
    """A file behind a URL; safe to use from several threads."""

    def __init__(self, url: str, size: int | None = None) -> None:
        """`size` is that of the file when it was listed, bytes; None if it is not known yet."""
        self.url, self.size = url, size
        self.has_ranges = True

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on; fewer only at the end of the file.

        Raises:
            NetworkTrouble: they did not come, though they were asked for several times.
            Unreadable: the file is gone, closed or has changed.
        """
        if self.has_ranges and size and (self.size is None or offset < self.size):
            content = trying(lambda: self._part(offset, size), self.url)
            if content is not None:
                return content
            self.has_ranges = False
        if not size or (self.size is not None and offset >= self.size):
            return b""
        return trying(lambda: stream_of(self.url).read(offset, size, self.check_size), self.url)

    def check_size(self, size: int) -> None:
        """Note the size of the file; raise Unreadable if it has changed."""
        if self.size is not None and size != self.size:
            raise Unreadable(
                f"the archive has changed since it was listed, from {self.size} to {size} bytes"
            )
        self.size = size

    def _part(self, offset: int, size: int) -> bytes | None:
        """Return the bytes of one request; None if the server sends the whole file instead."""
        asked = f"bytes={offset}-{offset + size - 1}"
        with answered(self.url, good=(200, 206, 416), asked=asked) as response:
            if response.status_code == 200:
                return None
            said = response.headers.get("Content-Range", "")
            end = self._check_range(said, offset, offset + size)
            content = bytearray()
            for block in in_time(blocks(response), size):
                content += block
                if len(content) > end - offset:
                    break
            if len(content) != end - offset:
                raise NetworkTrouble(f"the server sent another number of bytes than {said}")
            return bytes(content)

    def _check_range(self, said: str, begin: int, end: int) -> int:
        """Return where the bytes of an answer end; NetworkTrouble if others were asked for."""
        if none := _NONE.fullmatch(said):
            self.check_size(int(none[1]))
        part = _PART.fullmatch(said)
        if part and part[3] != "*":
            self.check_size(int(part[3]))
        end = end if self.size is None else min(end, self.size)
        if not part or (int(part[1]), int(part[2])) != (begin, end - 1):
            raise NetworkTrouble(f"asked for bytes {begin}-{end - 1}, the server sent {said!r}")
        return end


@cache
def archive_of(url: str, size: int | None) -> Archive:
    """Return a file that many clips are read from; what is learnt of its server is kept."""
    return Archive(url, size)


class ArchiveFile(io.RawIOBase):
    """An archive as a file that can be read and sought in; give it a buffer."""

    def __init__(self, archive: Archive) -> None:
        super().__init__()
        self.archive, self.position = archive, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.position}
        self.position = offset + (start[whence] if whence in start else self._size())
        return self.position

    def readinto(self, buffer: Any) -> int:
        content = self.archive.read(self.position, len(buffer))
        buffer[: len(content)] = content
        self.position += len(content)
        return len(content)

    def _size(self) -> int:
        if self.archive.size is None:
            self.archive.read(0, 1)
        if self.archive.size is None:
            raise Unreadable("the server does not say how large the file is")
        return self.archive.size

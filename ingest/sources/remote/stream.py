"""A file from a server without ranges: it arrives once, in order, and stays on disk for a while."""

import io
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import IO

from .client import answered, blocks, in_time

COPY_BYTES = 1 << 30
"""Most of a file that a worker keeps on its disk, so that clips may come a little out of order."""
OPEN = 2
"""Files that a process has open: the end of one, and the beginning of the next."""


class Stream:
    """One file; safe to use from several threads, which wait for each other."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._open = ExitStack()
        self._arriving: Iterator[bytes] | None = None
        self._copy: IO[bytes] | None = None
        self._begin = self._end = 0
        """Which bytes of the file the copy holds."""

    def read(self, offset: int, size: int, check_size: Callable[[int], None]) -> bytes:
        """Return `size` bytes from `offset` on; fewer only at the end of the file.

        Only bytes from before the copy begin the file anew. `check_size` is called with the size
        of the file as soon as it is known. Errors are those of `answered` and `blocks`.
        """
        with self._lock, ExitStack() as on_error:
            on_error.callback(self._hang_up)
            if self._copy is None or offset < self._begin:
                self._begin_anew(check_size)
            assert self._copy
            self._receive(offset, offset + size, check_size)
            self._copy.seek(max(offset - self._begin, 0))
            content = self._copy.read(size)
            on_error.pop_all()
            return content

    def close(self) -> None:
        """Hang up and delete the copy; the next read begins anew."""
        with self._lock:
            self._hang_up()

    def _begin_anew(self, check_size: Callable[[int], None]) -> None:
        self._hang_up()
        self._copy = self._open.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        response = self._open.enter_context(answered(self.url))
        if (length := response.headers.get("Content-Length", "")).isdecimal():
            check_size(int(length))
        self._arriving = blocks(response)

    def _receive(self, begin: int, end: int, check_size: Callable[[int], None]) -> None:
        """Add to the copy what comes before `end`; bytes from `begin` on stay in it."""
        assert self._copy
        assert self._arriving
        self._copy.seek(0, io.SEEK_END)
        if self._end >= end:
            return
        for block in in_time(self._arriving, end - self._end):
            if self._end - self._begin > COPY_BYTES and self._end <= begin:
                self._copy.seek(0)
                self._copy.truncate()
                self._begin = self._end
            self._copy.write(block)
            self._end += len(block)
            if self._end >= end:
                return
        check_size(self._end)

    def _hang_up(self) -> None:
        self._open.close()
        self._open, self._copy, self._arriving = ExitStack(), None, None
        self._begin = self._end = 0


_streams: OrderedDict[str, Stream] = OrderedDict()
_lock = threading.Lock()


def stream_of(url: str) -> Stream:
    """Return the stream of a file; this process keeps it open from clip to clip."""
    with _lock:
        stream = _streams.setdefault(url, Stream(url))
        _streams.move_to_end(url)
        old = _streams.popitem(last=False)[1] if len(_streams) > OPEN else None
    if old:
        old.close()
    return stream


def close_stream(url: str) -> None:
    """Hang up on the server of a file, if one sends it."""
    with _lock:
        stream = _streams.pop(url, None)
    if stream:
        stream.close()

"""Open files wherever they are: here, behind HTTP, or behind any other URL that fsspec opens."""

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, cast

import fsspec

from audio_barlow_twins.shards.base.errors import first_line
from audio_barlow_twins.shards.base.place import client_errors

from ...errors import NetworkTrouble, Unreadable
from .archive import Archive, ArchiveFile, archive_of
from .client import is_http
from .stream import close_stream

READ_AHEAD = 5 << 20
"""Bytes that a listing asks for at a time."""
_sizes: dict[str, int | None] = {}


def is_elsewhere(url: str) -> bool:
    """Tell a file that is reached by a network from one of this machine."""
    return "://" in url and not url.startswith(("file://", "local://"))


@contextmanager
def opened(url: str, size: int | None = None) -> Iterator[IO[bytes]]:
    """Yield a file to read clips from; `size` as in `listed_size`.

    Raises:
        NetworkTrouble: it cannot be reached now.
        Unreadable: it is gone, closed or has changed.
        OSError: a file of this machine cannot be read.
    """
    if is_http(url):
        yield _buffered(archive_of(url, size))
        return
    with own_errors(url), _open(url) as file:
        yield file


@contextmanager
def opened_to_list(url: str) -> Iterator[IO[bytes]]:
    """Yield a file to list clips of; OSError, with a message of one line, if it cannot be read."""
    archive = Archive(url)
    try:
        if is_http(url):
            yield _buffered(archive)
            _sizes[url] = archive.size
        else:
            with own_errors(url), _open(url) as file:
                yield file
    except (NetworkTrouble, Unreadable) as error:
        raise OSError(str(error)) from error
    finally:
        close_stream(url)


def listed_size(url: str) -> int | None:
    """Return the size that a file behind HTTP had when it was listed, bytes; None for others."""
    return _sizes.get(url)


def read_part(url: str, offset: int, size: int, listed: int | None) -> bytes:
    """Return `size` bytes of a file from `offset` on, fewer at its end; `opened` has the errors."""
    if is_http(url):
        return archive_of(url, listed).read(offset, size)
    with own_errors(url), _open(url) as file:
        file.seek(offset)
        return file.read(size)


def _open(url: str) -> AbstractContextManager[IO[bytes]]:
    # In a path of this machine `::` and `*` are letters like any others.
    return open(url, "rb") if url.startswith("/") else fsspec.open(url, "rb")


def _buffered(archive: Archive) -> IO[bytes]:
    return cast(IO[bytes], io.BufferedReader(ArchiveFile(archive), READ_AHEAD))


@contextmanager
def own_errors(url: str) -> Iterator[None]:
    """Give the failures of a remote file, after its client's own tries, the classes of HTTP's."""
    if not is_elsewhere(url):
        yield
        return
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        raise Unreadable(f"the archive cannot be opened: {first_line(error)}") from error
    except client_errors() as error:
        raise NetworkTrouble(first_line(error)) from error

"""Files that a source names by paths, folders, patterns or fsspec URLs."""

import os
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import IO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.decode.files import is_hidden


def open_url(url: str) -> AbstractContextManager[IO[bytes]]:
    """Return a context that opens a file that `find_urls` has found, for reading.

    In a path of this machine `::` and `*` are letters like any others.
    """
    return open(url, "rb") if url.startswith("/") else fsspec.open(url, "rb")


def find_urls(urls: tuple[str, ...], *endings: str) -> list[str]:
    """Return the files that are named, directly, by patterns or as folders of files with endings.

    What exists on this machine under a name is meant, whatever letters the name has. Only
    otherwise is it a pattern, and with `://` in it a URL, or several chained with `::`.

    Returns:
        Absolute paths of this machine, and URLs, each once; open them with `open_url`.

    Raises:
        UserError: one of them names nothing.
    """
    found: list[str] = []
    for url in urls:
        if "://" in url and not os.path.exists(url):
            system, path = fsspec.core.url_to_fs(url)
        else:
            path = url if os.path.exists(url) else os.path.expanduser(url)
            system, path = LocalFileSystem(), str(Path(path).absolute())
        if system.isdir(path):
            paths = [each for each in system.ls(path, detail=False) if _fits(each, endings)]
        else:
            paths = [path] if system.exists(path) else system.glob(path)
        if not paths:
            raise UserError(f"{url}: no such {endings[0]} file, nor a folder of them")
        local = isinstance(system, LocalFileSystem)
        found += sorted(
            each if local else _chained(url, system.unstrip_protocol(each)) for each in paths
        )
    return list(dict.fromkeys(found))


def _fits(path: str, endings: tuple[str, ...]) -> bool:
    name = PurePosixPath(path).name
    return not is_hidden(name) and name.lower().endswith(tuple(f".{each}" for each in endings))


def _chained(url: str, found: str) -> str:
    """Write a file that was found by chained URLs as a chain again: `zip://a.tar::s3://b/c.zip`."""
    head, _, rest = url.partition("::")
    if not rest:
        return found
    return f"{found}::{rest}" if "://" in head else f"{head}::{_chained(rest, found)}"


def short_names(urls: list[str]) -> dict[str, str]:
    """Name files without their folder, so that origins do not depend on where a mirror is.

    Files of one name in several folders keep their whole URL.
    """
    names = {url: PurePosixPath(url).name for url in urls}
    if len(set(names.values())) == len(names):
        return names
    return {url: f"file://{url}" if url.startswith("/") else url for url in urls}

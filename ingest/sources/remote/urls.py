"""Files that a source names by paths, folders, patterns or fsspec URLs."""

import os
from functools import partial
from pathlib import Path, PurePosixPath

import fsspec
from fsspec.implementations.local import LocalFileSystem

from audio_barlow_twins.shards.base.errors import UserError, first_line
from audio_barlow_twins.shards.decode.files import is_hidden

from ...errors import NetworkTrouble, Unreadable
from .client import is_http
from .listing import list_http
from .open import own_errors


def find_urls(urls: tuple[str, ...], *endings: str) -> list[str]:
    """Return the files that are named, directly, by patterns or as folders of files with endings.

    What exists on this machine under a name is meant, whatever letters the name has. Only
    otherwise is it a pattern, and with `://` in it a URL, or several chained with `::`.

    Returns:
        Absolute paths of this machine, and URLs, each once.

    Raises:
        UserError: one of them names nothing, or cannot be listed.
    """
    found: list[str] = []
    fits = partial(_fits, tuple(f".{each}" for each in endings))
    for url in urls:
        try:
            with own_errors(url):
                paths = list_http(url, fits) if is_http(url) else _list(url, fits)
        except (NetworkTrouble, Unreadable, OSError, ValueError) as error:
            raise UserError(f"{url} cannot be listed: {first_line(error)}") from error
        if not paths:
            raise UserError(f"{url}: no such {endings[0]} file, nor a folder of them")
        found += paths
    return list(dict.fromkeys(found))


def _list(url: str, fits: partial[bool]) -> list[str]:
    if "://" in url and not os.path.exists(url):
        system, path = fsspec.core.url_to_fs(url)
    else:
        path = url if os.path.exists(url) else os.path.expanduser(url)
        system, path = LocalFileSystem(), str(Path(path).absolute())
    if system.isdir(path):
        paths = [each for each in system.ls(path, detail=False) if fits(each)]
    else:
        paths = [path] if system.exists(path) else system.glob(path)
    local = isinstance(system, LocalFileSystem)
    return sorted(each if local else _chained(url, system.unstrip_protocol(each)) for each in paths)


def _fits(endings: tuple[str, ...], path: str) -> bool:
    name = PurePosixPath(path).name
    return not is_hidden(name) and name.lower().endswith(endings)


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

"""Files that a source names by paths, folders, patterns or fsspec URLs."""

from pathlib import PurePosixPath

import fsspec

from audio_barlow_twins.shards.base.errors import UserError, first_line

from ...errors import NetworkTrouble, Unreadable
from .client import is_http
from .listing import list_http
from .open import own_errors


def find_urls(urls: tuple[str, ...], ending: str) -> list[str]:
    """Return the files that are named, directly, by patterns or as folders of files with an ending.

    Raises:
        UserError: one of them names nothing.
    """
    found: list[str] = []
    for url in urls:
        try:
            with own_errors(url):
                paths = list_http(url, ending) if is_http(url) else _list(url, ending)
        except (NetworkTrouble, Unreadable, OSError, ValueError) as error:
            raise UserError(f"{url} cannot be listed: {first_line(error)}") from error
        if not paths:
            raise UserError(f"{url}: no such {ending} file, nor a folder of them")
        found += paths
    return list(dict.fromkeys(found))


def _list(url: str, ending: str) -> list[str]:
    system, path = fsspec.core.url_to_fs(url)
    pattern = f"{path.rstrip('/')}/*.{ending}" if system.isdir(path) else path
    return [system.unstrip_protocol(each) for each in sorted(system.glob(pattern))]


def short_names(urls: list[str]) -> dict[str, str]:
    """Name files without their folder, so that origins do not depend on where a mirror is.

    Files of one name in several folders keep their whole URL.
    """
    names = {url: PurePosixPath(url).name for url in urls}
    return names if len(set(names.values())) == len(names) else {url: url for url in names}

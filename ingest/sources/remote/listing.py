"""Which files an HTTP server lists in the pages of its folders."""

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from html import unescape
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import requests

from ...errors import Unreadable
from .client import answered, blocks, in_time, trying

PAGE_BYTES = 32 << 20
"""Largest page of a folder: a few hundred thousand names."""
_PATTERN = re.compile(r"[*\[]")
_ANCHOR = re.compile(r"""<a\s[^>]*?href\s*=\s*["']?([^"'>\s]+)""", re.IGNORECASE)


def list_http(url: str, fits: Callable[[str], bool]) -> list[str]:
    """Return the files of a folder that fit, those of a pattern (`*`, `[]`), or the file.

    Args:
        url: of the folder, the pattern or the file.
        fits: tells by its path whether a file is wanted.

    Errors are those of `trying`.
    """
    if _PATTERN.search(urlsplit(url).path):
        return sorted(_matching(url))
    links = None if fits(urlsplit(url).path) else _links(url)
    if links is None:
        return [url]
    return sorted(each for each in links if fits(urlsplit(each).path))


def _matching(url: str) -> set[str]:
    """Return the files of a pattern, folder by folder."""
    parts = url.split("/")
    number = next(n for n, part in enumerate(parts) if n > 2 and _PATTERN.search(part))
    folder, pattern, rest = "/".join(parts[:number]), unquote(parts[number]), parts[number + 1 :]
    found = set()
    for link in _links(f"{folder}/") or ():
        name = unquote(urlsplit(link).path.rstrip("/").rpartition("/")[2])
        if fnmatchcase(name, pattern):
            below = "/".join([link.rstrip("/"), *rest])
            found |= _matching(below) if _PATTERN.search("/".join(rest)) else {below}
    return found


def _links(url: str) -> set[str] | None:
    """Return what the page of a folder links to right inside of it; None if it is no page."""

    def ask() -> tuple[str, str] | None:
        with answered(url) as response:
            is_page = "html" in response.headers.get("Content-Type", "")
            return (response.url, _text(response)) if is_page else None

    found = trying(ask, url)
    if found is None:
        return None
    address, page = found
    folder = _folder(address)
    links = {urldefrag(urljoin(folder, unescape(href))).url for href in _ANCHOR.findall(page)}
    return {each for each in links if re.fullmatch(r"[^/?]+/?(\?.*)?", each.removeprefix(folder))}


def _folder(address: str) -> str:
    """Return the folder of a page, whose own address may lack the last slash."""
    path, _, query = address.partition("?")
    if query or path.endswith((".html", ".htm")):
        path = path.rpartition("/")[0]
    return path.rstrip("/") + "/"


def _text(response: requests.Response) -> str:
    page = bytearray()
    for block in in_time(blocks(response, decode=True), 1 << 23):
        page += block
        if len(page) > PAGE_BYTES:
            raise Unreadable(f"the page of the folder has more than {PAGE_BYTES} bytes")
    return page.decode(errors="replace")

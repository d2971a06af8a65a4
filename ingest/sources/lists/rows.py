"""Read the rows of any list of videos: each becomes an entry, or says why it cannot."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from audio_barlow_twins.shards.base.errors import UserError

from ..labels import words
from ..segment import YTID, parse_segment
from .layouts import Layout
from .listed import milliseconds

_IN_ADDRESS = re.compile(rf"(?:[?&]v=|youtu\.be/|/(?:shorts|embed|live|v)/)({YTID})(?![\w-])")
_QUOTED = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""")
SHOWN = 80
"""Longest part of a cell that is shown."""


class Entry(NamedTuple):
    """A row of a list."""

    video: str
    """Id of the video, or its address."""
    start_ms: int | None
    end_ms: int | None
    labels: str
    """A label a line."""
    name: str | None
    """What its key is made of; None if that is a segment's."""
    path: str | None
    """Address of the page; None if it is made of the id."""
    refused: str | None
    """Why the row cannot be used; None if it can."""


class ListRows:
    """The entries of one list."""

    def __init__(self, path: Path, layout: Layout, page: str, split: str = "") -> None:
        """`page` is the address of a video without its id; `split` the only one to take, if any."""
        self.path, self.layout, self.page, self.split = path, layout, page, split
        self.places: dict[str, int] = {}
        self.left_out: dict[str, int] = {}
        """Rows of other splits."""

    def __iter__(self) -> Iterator[Entry]:
        is_tsv = self.path.suffix.lower() == ".tsv"
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.reader(
                    file, delimiter="\t" if is_tsv else ",", skipinitialspace=not is_tsv
                )
                header = next(reader, []) if self.layout.has_header() else []
                self.places = self.layout.columns([name.strip() for name in header])
                for row in filter(None, reader):
                    if self._is_wanted(row):
                        yield self._entry(row, reader.line_num)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{self.path} cannot be read as a list of videos: {error}") from error
        except UserError as error:
            raise UserError(f"{self.path}: {error}") from error

    def _is_wanted(self, row: list[str]) -> bool:
        if not self.split or len(row) <= self.places["split_field"]:
            return True
        found = row[self.places["split_field"]].strip()
        if found != self.split:
            self.left_out[found] = self.left_out.get(found, 0) + 1
        return found == self.split

    def _entry(self, row: list[str], line: int) -> Entry:
        cells = {n: row[at].strip() for n, at in self.places.items() if at < len(row)}
        labels = "\n".join(split_labels(cells.get("label_field", ""), self.layout.label_separator))
        text = " ".join(cells.get("id_field", "").split())[:SHOWN]
        try:
            if short := self.places.keys() - cells.keys():
                last = max(self.places[each] for each in short)
                raise ValueError(f"it has {len(row)} columns, wanted {last + 1}")
            start_ms, end_ms = self._times(cells)
            video, path = _video(cells["id_field"], self.page)
        except ValueError as error:
            reason = f"line {line} of {self.path.name}: {error}"
            name = f"{text} line {line} of {self.path.name}"
            return Entry(text or name.strip(), None, None, labels, name, None, reason)
        return Entry(video, start_ms, end_ms, labels, _name(video, start_ms), path, None)

    def _times(self, cells: dict[str, str]) -> tuple[int | None, int | None]:
        length_ms = round(self.layout.length_s * 1000)
        if not length_ms and not self.layout.end_field:
            return None, None
        start_ms = _time("start", cells["start_field"]) if "start_field" in cells else 0
        end_ms = _time("end", cells["end_field"]) if "end_field" in cells else start_ms + length_ms
        if end_ms <= start_ms:
            raise ValueError(f"it ends at {end_ms / 1000:g} s, and starts at {start_ms / 1000:g} s")
        return start_ms, end_ms


def _time(what: str, given: str) -> int:
    try:
        return milliseconds(given)
    except ValueError:
        raise ValueError(
            f"its {what} is {given[:SHOWN]!r}, wanted seconds in a recording"
        ) from None


def _video(text: str, page: str) -> tuple[str, str | None]:
    """Return the id of a video, and its page if that is not made of the id.

    Raises:
        ValueError: it is neither an id nor an address.
    """
    if "://" in text:
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname or not _is_plain(text):
            raise ValueError(f"{text[:SHOWN]!r} is no address that begins with https:// or http://")
        found = _IN_ADDRESS.search(text) if is_youtube(text) else None
        if found:
            return found[1], None if is_youtube(page) else text
        return text, text
    if re.fullmatch(YTID, text):
        return text, None
    if is_youtube(page):
        raise ValueError(f"{text[:SHOWN]!r} is no id of YouTube: 11 letters, digits, - or _")
    if not _is_plain(text):
        raise ValueError(f"{text[:SHOWN]!r} is no id of a video")
    return text, None


def is_youtube(address: str) -> bool:
    """Tell an address of YouTube's."""
    host = urlsplit(address).hostname or ""
    return host == "youtu.be" or f".{host}".endswith((".youtube.com", ".youtube-nocookie.com"))


def _is_plain(text: str) -> bool:
    return bool(text) and text.isprintable() and " " not in text


def _name(video: str, start_ms: int | None) -> str | None:
    """Return what the key of a clip is made of; None for a segment of YouTube's."""
    if re.fullmatch(YTID, video):
        return None
    name = re.sub(r"^https?://", "", video) + ("" if start_ms is None else f"_{start_ms}")
    # The key of a segment must be a segment's; the space brings a hash.
    return f"{name} video" if parse_segment(name) else name


def split_labels(text: str, separator: str) -> list[str]:
    """Return the labels of a cell, each once: separated, or a list as Python writes it."""
    parts = text.split(separator) if separator else [text]
    if separator and text.startswith("[") and text.endswith("]"):
        quoted = [one or other for one, other in _QUOTED.findall(text)]
        parts = [re.sub(r"\\(.)", r"\1", each) for each in quoted] or text[1:-1].split(",")
    return list(words(" ".join(part.split()) for part in parts))

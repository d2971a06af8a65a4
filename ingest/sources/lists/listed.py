"""The videos of a list as columns, which take far less memory than an object each."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import overload

import pyarrow as pa

from ..clip import Clip
from ..segment import Segment

PAGE = "https://www.youtube.com/watch?v="
LATEST_S = 10_000_000
"""No recording is longer, s: the longest videos are known to last 25 days."""
_CHUNK = 100_000


def milliseconds(text: str) -> int:
    """Return a time that is written in seconds; ValueError if it lies in no recording."""
    seconds = float(text)
    if not 0 <= seconds <= LATEST_S:  # not a number, either
        raise ValueError(f"{text} s lies in no recording")
    return round(seconds * 1000)


def columns_of(rows: Iterable[tuple], schema: pa.Schema) -> pa.Table:
    """Turn rows into columns, some at a time."""
    rows, batches = iter(rows), []
    while chunk := list(islice(rows, _CHUNK)):
        columns = zip(*chunk, strict=True)
        arrays = [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
        batches.append(pa.record_batch(arrays, schema=schema))
    return pa.Table.from_batches(batches, schema=schema)


@dataclass(frozen=True, kw_only=True)
class ListedVideos(Sequence[Clip]):
    """The clips of a list, in its order; each is made when it is requested."""

    table: pa.Table
    """Columns: those of `_clip`, which may lack the last three."""
    source: str
    page: str
    names: dict[str, str]
    """Display name of each class by its mid; empty to keep the mids."""
    separator: str
    """Between the labels of a row."""

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> list[Clip]: ...
    def __getitem__(self, index: int | slice) -> Clip | list[Clip]:
        if isinstance(index, int):
            return self._clip(**self.table.slice(range(len(self))[index], 1).to_pylist()[0])
        begin, end, step = index.indices(len(self))
        rows = self.table.slice(begin, max(0, end - begin)).to_pylist()[::step]
        return [self._clip(**row) for row in rows]

    def __iter__(self) -> Iterator[Clip]:
        for begin in range(0, len(self), _CHUNK):
            yield from self[begin : begin + _CHUNK]

    def _clip(
        self,
        video: str,
        start_ms: int | None,
        end_ms: int | None,
        labels: str,
        key: str | None = None,
        path: str | None = None,
        refused: str | None = None,
    ) -> Clip:
        """Make a clip; without times it is the whole video.

        Args:
            video: its id, or its address.
            labels: joined by the separator.
            key: default: that of a segment.
            path: address of the page; default: made of the id.
            refused: why the row cannot be used.
        """
        labelled = filter(None, labels.split(self.separator))
        return Clip(
            key=key or Segment(video, start_ms).key,
            source=self.source,
            path=path or f"{self.page}{video}",
            origin=video,
            labels=tuple(self.names.get(label, label) for label in labelled),
            video=True,
            start_s=None if start_ms is None else start_ms / 1000,
            end_s=None if end_ms is None else end_ms / 1000,
            cut="done" if end_ms is None else "needed",
            refused=refused or "",
        )

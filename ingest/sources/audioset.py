"""A source of clips: AudioSet's official lists (Gemmeke et al., 2017); the audio is on YouTube."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audio_barlow_twins.shards.base.errors import UserError

from .clip import Clip
from .segment import YTID, Segment

PAGE = "https://www.youtube.com/watch?v="
_COUNT = re.compile(r"(num_\w+)=(\d+)")
_CHUNK = 100_000
_COLUMNS = {"ytid": pa.string(), "start_ms": pa.int64(), "end_ms": pa.int64(), "mids": pa.string()}


@dataclass(frozen=True)
class AudioSet(Sequence[Clip]):
    """The clips of AudioSet's lists, in their order; each is made when it is asked for.

    Two million clips are 0.2 GB as columns and would be 2 GB as objects.
    """

    table: pa.Table
    page: str
    names: dict[str, str]
    """Display name of each class by its mid; empty to keep the mids."""

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> list[Clip]: ...
    def __getitem__(self, index: int | slice) -> Clip | list[Clip]:
        if isinstance(index, int):
            return self._clip(*self.table.slice(range(len(self))[index], 1).to_pylist()[0].values())
        begin, end, step = index.indices(len(self))
        rows = self.table.slice(begin, max(0, end - begin)).to_pylist()[::step]
        return [self._clip(*row.values()) for row in rows]

    def __iter__(self) -> Iterator[Clip]:
        for begin in range(0, len(self), _CHUNK):
            yield from self[begin : begin + _CHUNK]

    def _clip(self, ytid: str, start_ms: int, end_ms: int, mids: str) -> Clip:
        return Clip(
            key=Segment(ytid, start_ms).key,
            source="audioset",
            path=f"{self.page}{ytid}",
            origin=ytid,
            labels=tuple(self.names.get(mid, mid) for mid in mids.split(",")),
            video=True,
            start_s=start_ms / 1000,
            end_s=end_ms / 1000,
            cut="needed",
        )


def audioset_clips(
    lists: Sequence[Path], class_labels: Path | None = None, page: str = PAGE
) -> AudioSet:
    """Read `{balanced_train,unbalanced_train,eval}_segments.csv`, one or several.

    Args:
        lists: the files; each must have as many segments and labels as its header says.
        class_labels: `class_labels_indices.csv`, to write display names instead of mids.
        page: address of a video without its name.

    Raises:
        UserError: a file is not what Google published, is cut, or a segment is listed twice.
    """
    if not lists:
        raise UserError("name at least one list, such as balanced_train_segments.csv")
    table = pa.concat_tables([_read_list(path) for path in lists])
    if not len(table):
        raise UserError(f"{' '.join(map(str, lists))}: no segment is listed")
    names = np.asarray(table["ytid"].cast(pa.binary()).to_numpy(zero_copy_only=False), "S11")
    order = np.lexsort((table["start_ms"].to_numpy(), names))
    starts, names = table["start_ms"].to_numpy()[order], names[order]
    if len(twice := np.flatnonzero((names[1:] == names[:-1]) & (starts[1:] == starts[:-1]))):
        raise UserError(
            f"{len(twice)} segments are listed twice, the first is {names[twice[0]].decode()}; "
            "name each list once"
        )
    pa.default_memory_pool().release_unused()  # 250 MB for two million clips
    return AudioSet(table, page, _read_names(class_labels) if class_labels else {})


def _read_list(path: Path) -> pa.Table:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header = dict(_COUNT.findall("".join(islice(file, 3))))
            rows = _rows(path, csv.reader(file, skipinitialspace=True))
            table = pa.Table.from_batches(_batches(rows), schema=pa.schema(_COLUMNS.items()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a list of segments: {error}") from error
    _check_counts(path, {name: int(number) for name, number in header.items()}, table)
    return table


def _rows(path: Path, reader: Iterator[list[str]]) -> Iterator[tuple[str, int, int, str]]:
    for number, row in enumerate(reader, start=4):
        try:
            ytid, start, end, mids = row
            times = round(float(start) * 1000), round(float(end) * 1000)
        except ValueError:
            raise UserError(
                f"{path}, line {number}: wanted YTID, start_seconds, end_seconds, labels"
            ) from None
        if not re.fullmatch(YTID, ytid) or not 0 <= times[0] < times[1] or not mids:
            raise UserError(f"{path}, line {number}: {', '.join(row)[:80]!r} is no segment")
        yield ytid, *times, mids


def _batches(rows: Iterator[tuple[str, int, int, str]]) -> Iterator[pa.RecordBatch]:
    schema = pa.schema(_COLUMNS.items())
    while chunk := list(islice(rows, _CHUNK)):
        columns = zip(*chunk, strict=True)
        arrays = [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
        yield pa.record_batch(arrays, schema=schema)


def _check_counts(path: Path, said: dict[str, int], table: pa.Table) -> None:
    """Compare a list with the numbers in its own header."""
    if not said:
        raise UserError(
            f"{path} does not begin with AudioSet's three comment lines (# num_ytids=…); "
            "take the file as Google published it"
        )
    labels = pc.list_flatten(pc.split_pattern(table["mids"], ","))
    found = {
        "num_ytids": pc.count_distinct(table["ytid"]).as_py(),
        "num_segs": len(table),
        "num_unique_labels": pc.count_distinct(labels).as_py(),
        "num_positive_labels": len(labels),
    }
    for name in found.keys() & said.keys():
        if found[name] != said[name]:
            raise UserError(
                f"{path} says {name}={said[name]} and holds {found[name]}; the download was cut or "
                "the file was edited: get it again, or correct its second line"
            )


def _read_names(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["mid"]: row["display_name"] for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError, KeyError, csv.Error) as error:
        raise UserError(
            f"{path} is not class_labels_indices.csv (index,mid,display_name): {error!r}"
        ) from error

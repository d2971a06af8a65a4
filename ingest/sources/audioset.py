"""A source of clips: AudioSet's official lists (Gemmeke et al., 2017); the audio is on YouTube.

Strong labels (Hershey et al., 2021) say which sound lasts from when to when.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audio_barlow_twins.shards.base.cli import Positional
from audio_barlow_twins.shards.base.errors import UserError

from .clip import Clip, Event
from .segment import YTID, Segment
from .source import Source

PAGE = "https://www.youtube.com/watch?v="
_COUNT = re.compile(r"(num_\w+)=(\d+)")
STRONG_COLUMNS = ["segment_id", "start_time_seconds", "end_time_seconds", "label"]
_CHUNK = 100_000
_COLUMNS = {"ytid": pa.string(), "start_ms": pa.int64(), "end_ms": pa.int64(), "mids": pa.string()}


@dataclass(frozen=True, kw_only=True)
class Audioset(Source):
    """Ingest AudioSet from YouTube by its official lists, with yt-dlp.

    YouTube's terms are yours to weigh; nothing is circumvented unless you pass a way to do so.
    """

    name = "audioset"

    lists: Positional[tuple[Path, ...]]
    """balanced_train_segments.csv, unbalanced_train_segments.csv, eval_segments.csv, or several."""
    class_labels: Path | None = None
    """class_labels_indices.csv: labels become display names instead of mids."""
    strong: tuple[Path, ...] = ()
    """TSVs of strong labels: clips that they list get events with onset and offset."""
    page: str = PAGE
    """Address of a video without its id."""

    def clips(self) -> Sequence[Clip]:
        clips = audioset_clips(self.lists, self.class_labels, self.page)
        return with_events(clips, self.strong, clips.names) if self.strong else clips

    @property
    def videos_at(self) -> str:
        return self.page


@dataclass(frozen=True)
class AudioSet(Sequence[Clip]):
    """The clips of AudioSet's lists, in their order; each is made when it is requested.

    Two million clips take far less memory as columns than as objects.
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
    """Read one or several of `{balanced_train,unbalanced_train,eval}_segments.csv`.

    The options are those of `Audioset`.

    Raises:
        UserError: a file is not what Google published, does not hold as many segments and labels
            as its header says, or a segment is listed twice.
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
    pa.default_memory_pool().release_unused()  # the check's scratch memory
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


def with_events(clips: Iterable[Clip], tables: Sequence[Path], names: dict[str, str]) -> list[Clip]:
    """Add strong labels to clips with keys `YTID_startms`; clips that no table lists get none.

    `tables` have the STRONG_COLUMNS; `names` turns mids into display names where it can.

    Raises:
        UserError: a table cannot be read, or shares no segment with the clips.
    """
    events: dict[str, list[Event]] = defaultdict(list)
    for table in tables:
        for key, event in _strong_labels(table):
            events[key].append(event._replace(label=names.get(event.label, event.label)))
    found = [replace(clip, events=tuple(events.get(clip.key, ()))) for clip in clips]
    if not any(clip.events for clip in found):
        raise UserError(
            f"{' '.join(map(str, tables))}: none of {len(events)} segments is in the lists; "
            "balanced_train and unbalanced_train go with audioset_train_strong.tsv, eval with "
            "audioset_eval_strong.tsv"
        )
    return found


def _strong_labels(path: Path) -> Iterable[tuple[str, Event]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, delimiter="\t")
            if list(reader.fieldnames or ()) != STRONG_COLUMNS:
                raise UserError(
                    f"{path} lacks the columns {', '.join(STRONG_COLUMNS)}, tab-separated"
                )
            for row in reader:
                start_s, end_s = (float(row[name]) for name in STRONG_COLUMNS[1:3])
                if not 0 <= start_s <= end_s:
                    raise UserError(
                        f"{path}, line {reader.line_num}: an event ends before it begins"
                    )
                yield row["segment_id"], Event(row["label"], start_s, end_s)
    except (OSError, UnicodeDecodeError, csv.Error, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} cannot be read as strong labels: {error}") from error

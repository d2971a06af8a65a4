"""A source of clips: AudioSet's official lists (Gemmeke et al., 2017); the audio is on YouTube."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audio_barlow_twins.shards.base.cli import Positional
from audio_barlow_twins.shards.base.errors import UserError

from ..clip import Clip
from ..segment import YTID
from ..source import Source
from .annotations import read_names, with_events
from .listed import PAGE, ListedVideos, columns_of, milliseconds

_COUNT = re.compile(r"(num_\w+)=(\d+)")
_SCHEMA = pa.schema(
    {"video": pa.string(), "start_ms": pa.int64(), "end_ms": pa.int64(), "labels": pa.string()}
)


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


def audioset_clips(
    lists: Sequence[Path], class_labels: Path | None = None, page: str = PAGE
) -> ListedVideos:
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
    names = np.asarray(table["video"].cast(pa.binary()).to_numpy(zero_copy_only=False), "S11")
    order = np.lexsort((table["start_ms"].to_numpy(), names))
    starts, names = table["start_ms"].to_numpy()[order], names[order]
    if len(twice := np.flatnonzero((names[1:] == names[:-1]) & (starts[1:] == starts[:-1]))):
        raise UserError(
            f"{len(twice)} segments are listed twice, the first is {names[twice[0]].decode()}; "
            "name each list once"
        )
    pa.default_memory_pool().release_unused()  # the check's scratch memory
    names_of = read_names(class_labels) if class_labels else {}
    return ListedVideos(table=table, source="audioset", page=page, names=names_of, separator=",")


def _read_list(path: Path) -> pa.Table:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header = dict(_COUNT.findall("".join(islice(file, 3))))
            rows = _rows(path, csv.reader(file, skipinitialspace=True))
            table = columns_of(rows, _SCHEMA)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a list of segments: {error}") from error
    _check_counts(path, {name: int(number) for name, number in header.items()}, table)
    return table


def _rows(path: Path, reader: Iterator[list[str]]) -> Iterator[tuple[str, int, int, str]]:
    for number, row in enumerate(reader, start=4):
        try:
            ytid, start, end, mids = row
            times = milliseconds(start), milliseconds(end)
        except ValueError:
            raise UserError(
                f"{path}, line {number}: wanted YTID, start_seconds, end_seconds, labels"
            ) from None
        if not re.fullmatch(YTID, ytid) or not 0 <= times[0] < times[1] or not mids:
            raise UserError(f"{path}, line {number}: {', '.join(row)[:80]!r} is no segment")
        yield ytid, *times, mids


def _check_counts(path: Path, said: dict[str, int], table: pa.Table) -> None:
    """Compare a list with the numbers in its own header."""
    if not said:
        raise UserError(
            f"{path} does not begin with AudioSet's three comment lines (# num_ytids=…); "
            "take the file as Google published it"
        )
    labels = pc.list_flatten(pc.split_pattern(table["labels"], ","))
    found = {
        "num_ytids": pc.count_distinct(table["video"]).as_py(),
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

"""A source of clips: any list of videos, by the address of their pages or by their ids."""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audio_barlow_twins.shards.base.cli import Positional
from audio_barlow_twins.shards.base.errors import UserError

from ..clip import Clip, clip_keys
from ..source import Source
from .annotations import read_names, with_events
from .layouts import LAYOUTS, Layout, Name
from .listed import PAGE, ListedVideos, columns_of
from .rows import Entry, ListRows

log = logging.getLogger(__name__)

_SCHEMA = pa.schema({n: pa.int64() if n.endswith("_ms") else pa.string() for n in Entry._fields})


@dataclass(frozen=True, kw_only=True)
class VideoList(Source):
    """Ingest any list of videos (CSV, or TSV by its ending) with yt-dlp, a row a clip.

    A column is given by its name in the first line, or by its number, from 1; if all are numbers,
    the first line is a row. A row that cannot be used becomes a failed clip (bad_entry) with the
    reason; rows of the same video and start become one clip with the labels of all. YouTube's terms
    are yours to weigh; nothing is circumvented unless you pass a way to do so.
    """

    name = "videos"

    lists: Positional[tuple[Path, ...]]
    """One or several lists of the same columns."""
    layout: Name | None = None
    """vggsound (vggsound.csv of its authors, no header: id, start, label, split; 10 s each),
    musiccaps (musiccaps-public.csv; its labels are mids, see --class-labels) or audiocaps
    (train.csv, val.csv, test.csv; 10 s each; the captions of a clip become its labels). Sets the
    fields below, which you can still give."""
    id_field: str | None = None
    """Column of the videos: YouTube's ids of 11 characters, other ids (see --page), or addresses
    (https://…)."""
    start_field: str | None = None
    """Column of the starts, seconds, such as 30 or 30.5; default: 0."""
    end_field: str | None = None
    """Column of the ends, seconds."""
    length_s: float | None = None
    """Length of every clip, s, in place of --end-field. With neither, a clip is a whole video (see
    --max-s)."""
    label_field: str | None = None
    """Column of the labels: one, several with --label-separator between them, or a list such as
    ['a', 'b']."""
    label_separator: str | None = None
    """What separates the labels of a row; default: ;. With '' a row has one label."""
    split_field: str | None = None
    """Column of the splits, such as train and test."""
    split: str = ""
    """Take the rows of this split alone; default: all."""
    class_labels: Path | None = None
    """AudioSet's class_labels_indices.csv: labels that are mids become display names."""
    strong: tuple[Path, ...] = ()
    """TSVs of strong labels as AudioSet's (segment_id is the key of a clip, YTID_startms): clips
    that they list get events with onset and offset."""
    page: str = PAGE
    """Address of a video without its id; for another site, name a good video of it (--canary)."""

    def clips(self) -> Sequence[Clip]:
        clips = self._listed()
        return with_events(clips, self.strong, clips.names) if self.strong else clips

    @property
    def videos_at(self) -> str:
        return self.page

    def _listed(self) -> ListedVideos:
        known = LAYOUTS[self.layout] if self.layout else None
        given = {each.name: getattr(self, each.name) for each in fields(Layout)}
        given = {name: value for name, value in given.items() if value is not None}
        layout = replace(known, **given) if known else Layout(**given)
        if self.split and not layout.split_field:
            raise UserError(f"--split {self.split} needs --split-field, the column of the splits")
        if not self.split:
            layout = replace(layout, split_field="")
        stems = "+".join(re.sub(r"[^\w.-]", "_", path.stem) for path in self.lists)
        return ListedVideos(
            table=_read(self.lists, layout, self.page, self.split),
            source=f"{self.name} {stems}",
            page=self.page,
            names=read_names(self.class_labels) if self.class_labels else {},
            separator="\n",
        )


def _read(lists: Sequence[Path], layout: Layout, page: str, split: str) -> pa.Table:
    """Read lists into the columns of `ListedVideos`; UserError if no row of them can be used."""
    if not lists:
        raise UserError("name at least one list of videos")
    rows = [ListRows(path, layout, page, split) for path in lists]
    table = columns_of(_numbered(rows), _SCHEMA)
    about = " ".join(map(str, lists))
    if left_out := sum(sum(each.left_out.values()) for each in rows):
        others = sorted({name for each in rows for name in each.left_out})[:5]
        log.info("%s: %d rows are left out, of the splits %s", about, left_out, ", ".join(others))
    if not len(table):
        raise UserError(f"{about}: no row{f' of the split {split}' if split else ''} is listed")
    refused = table["refused"].drop_null()
    if len(refused):
        first = refused[0].as_py()
        if len(refused) == len(table):
            raise UserError(f"{about}: none of {len(table)} rows can be used; {first}")
        log.warning("%s: %d rows cannot be used and fail; %s", about, len(refused), first)
    table = _merged(table, about)
    names = table["name"].to_pylist()
    odd = [name for name in names if name is not None]
    keys = iter(clip_keys(odd, [f"{name}.video" for name in odd]))
    column = pa.array([None if name is None else next(keys) for name in names], pa.string())
    pa.default_memory_pool().release_unused()  # the merge's scratch memory
    return table.drop_columns(["name"]).append_column("key", column)


def _numbered(rows: Sequence[ListRows]) -> Iterator[Entry]:
    """Yield the entries of all lists; a refused row is named after its list's number, too."""
    for number, entries in enumerate(rows, start=1):
        for entry in entries:
            is_odd = entry.refused and len(rows) > 1
            yield entry._replace(name=f"{entry.name} of list {number}") if is_odd else entry


def _merged(table: pa.Table, about: str) -> pa.Table:
    """Make rows of one video and start a single one with the labels of all, and say so."""
    table = table.combine_chunks()
    same = pc.if_else(pc.is_valid(table["refused"]), table["name"], table["video"])
    videos = same.combine_chunks().dictionary_encode().indices.to_numpy()
    starts = pc.fill_null(table["start_ms"], -1).to_numpy()
    order = np.lexsort((starts, videos))
    again = (np.diff(videos[order]) == 0) & (np.diff(starts[order]) == 0)
    if not again.any():
        return table
    heads = order[np.r_[True, ~again].nonzero()[0]][np.cumsum(np.r_[True, ~again]) - 1]
    first, other = heads[1:][again], order[1:][again]
    labels, ends = table["labels"].to_pylist(), table["end_ms"].to_pylist()
    more, longer = 0, 0
    for head, row in zip(first.tolist(), other.tolist(), strict=True):
        both = dict.fromkeys(filter(None, f"{labels[head]}\n{labels[row]}".split("\n")))
        more += set(both) != set(filter(None, labels[head].split("\n")))
        longer += ends[head] != ends[row]
        labels[head] = "\n".join(both)
    log.warning(
        "%s: %d rows list a video and start again and become one clip with the first; %d have "
        "further labels, which it gets, and %d another end, which it does not",
        *(about, len(other), more, longer),
    )
    table = table.set_column(table.schema.get_field_index("labels"), "labels", pa.array(labels))
    return table.filter(pa.array(np.isin(np.arange(len(table)), other, invert=True)))

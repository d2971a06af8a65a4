"""What further tables say of the clips of a list: names of classes, and strong labels.

Strong labels (Hershey et al., 2021) say which sound lasts from when to when.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from audio_barlow_twins.shards.base.errors import UserError

from ..clip import Clip, Event
from .listed import LATEST_S

STRONG_COLUMNS = ["segment_id", "start_time_seconds", "end_time_seconds", "label"]


def read_names(path: Path) -> dict[str, str]:
    """Return the display name of each class by its mid, from class_labels_indices.csv."""
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
            f"{' '.join(map(str, tables))}: none of {len(events)} segments is in the lists; a "
            "segment_id is YTID_startms. AudioSet's balanced_train and unbalanced_train go with "
            "audioset_train_strong.tsv, eval with audioset_eval_strong.tsv"
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
                if not 0 <= start_s <= end_s <= LATEST_S:
                    raise UserError(
                        f"{path}, line {reader.line_num}: an event lasts from {start_s:g} s to "
                        f"{end_s:g} s; wanted two times, the later one last"
                    )
                yield row["segment_id"], Event(row["label"], start_s, end_s)
    except (OSError, UnicodeDecodeError, csv.Error, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} cannot be read as strong labels: {error}") from error

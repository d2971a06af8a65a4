"""AudioSet's strong labels (Hershey et al., 2021): what sounds from when to when."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from audio_barlow_twins.shards.base.errors import UserError

from .clip import Clip, Event

COLUMNS = ["segment_id", "start_time_seconds", "end_time_seconds", "label"]


def with_events(clips: Iterable[Clip], tables: Sequence[Path], names: dict[str, str]) -> list[Clip]:
    """Add strong labels to the clips that the tables list; the others have none.

    Args:
        clips: with keys `YTID_startms`, as the tables' segment ids are.
        tables: TSVs with the columns segment_id, start_time_seconds, end_time_seconds, label.
        names: display name of each class by its mid; empty to keep the mids.

    Raises:
        UserError: a table cannot be read, or shares no segment with the clips.
    """
    events: dict[str, list[Event]] = defaultdict(list)
    for table in tables:
        for key, event in _events(table):
            events[key].append(event._replace(label=names.get(event.label, event.label)))
    found = [replace(clip, events=tuple(events.get(clip.key, ()))) for clip in clips]
    if not any(clip.events for clip in found):
        raise UserError(
            f"{' '.join(map(str, tables))}: none of {len(events)} segments is in the lists; "
            "balanced_train and unbalanced_train go with audioset_train_strong.tsv, eval with "
            "audioset_eval_strong.tsv"
        )
    return found


def _events(path: Path) -> Iterable[tuple[str, Event]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, delimiter="\t")
            if list(reader.fieldnames or ()) != COLUMNS:
                raise UserError(f"{path} lacks the columns {', '.join(COLUMNS)}, tab-separated")
            for row in reader:
                start_s, end_s = (float(row[name]) for name in COLUMNS[1:3])
                if not 0 <= start_s <= end_s:
                    raise UserError(
                        f"{path}, line {reader.line_num}: an event ends before it begins"
                    )
                yield row["segment_id"], Event(row["label"], start_s, end_s)
    except (OSError, UnicodeDecodeError, csv.Error, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} cannot be read as strong labels: {error}") from error

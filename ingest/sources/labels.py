"""Labels: words from a CSV, from JSON, from the columns of a table or from names of folders."""

import csv
import json
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from math import inf
from pathlib import Path
from typing import NamedTuple

from audio_barlow_twins.shards.base.errors import UserError

from .clip import Event, as_text, normal_name

TIMES = {"start_s", "end_s"}
"""Columns of a CSV that say when a label holds."""
SHOWN = 60
"""Longest piece of an unusable value that a message shows, characters."""


class BadLabels(ValueError):
    """A value that cannot be made labels; the message shows it."""


def words(texts: Iterable[str]) -> tuple[str, ...]:
    """Return labels without blanks around them, each once, in the order of their first mention.

    Raises:
        BadLabels: one is no valid Unicode, so that no file could hold it.
    """
    labels = tuple(dict.fromkeys(filter(None, map(str.strip, texts))))
    for label in labels:
        if as_text(label) != label:
            raise BadLabels(f"a label is {shortened(label)}, wanted valid Unicode")
    return labels


def as_labels(value: object, field: str, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the labels in a value of a table or a JSON: a list, one label, or nothing.

    Args:
        value: text, a whole number, a list of these, or None; None in a list is no label.
        field: what holds the value, for messages.
        names: of numbers; without, a number's digits are its label.

    Raises:
        BadLabels: it is anything else, or a number without a name.
    """
    if isinstance(value, list):
        return words(_word(each, f"{field} holds", names) for each in value if each is not None)
    return words([] if value is None else [_word(value, f"{field} is", names)])


def _word(value: object, where: str, names: Sequence[str]) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if not names:
            return str(value)
        if 0 <= value < len(names):
            return names[value]
        raise BadLabels(f"{where} {value}, and the table names classes 0 to {len(names) - 1}")
    raise BadLabels(f"{where} {shortened(value)}, wanted text, a whole number or a list of these")


def shortened(value: object) -> str:
    """Return the beginning of a value as JSON, on one line."""
    pieces = json.JSONEncoder(ensure_ascii=False, default=str).iterencode(value)
    text = as_text("".join(islice(pieces, SHOWN + 1)))  # lazy: the value may be huge, or deep
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def head_of(names: Collection[str], path: str) -> str | None:
    """Return the name that a path such as `tags.name` begins with, the longest if there are two.

    So a name that really has a dot in it wins. None if the path begins with none of them.
    """
    parts = path.split(".")
    heads = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((head for head in heads if head in names), None)


def value_at(value: object, path: str) -> object:
    """Return what a path such as `tags.name` leads to; None where a field is missing.

    Of a list on the way, each item is followed, and what is found is one list.

    Raises:
        BadLabels: the path goes on where there are no fields.
    """
    if isinstance(value, list):
        found = [value_at(each, path) for each in value]
        return [one for each in found for one in (each if isinstance(each, list) else [each])]
    if value is None:
        return None
    if not isinstance(value, dict):
        raise BadLabels(f"{shortened(value)} has no field {path}")
    head = head_of(value, path)
    if head is None:
        return None
    return value[head] if head == path else value_at(value[head], path[len(head) + 1 :])


class Labelled(NamedTuple):
    """What a CSV says of a recording."""

    labels: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    """What has a time; its labels are among `labels` too."""
    timed: tuple[str, ...] = ()
    """Labels of events alone."""

    def joined(self, labels: tuple[str, ...], events: tuple[Event, ...]) -> "Labelled":
        """Add a row: labels of the whole recording, or of events."""
        always = set(self.labels) - set(self.timed) | (set() if events else set(labels))
        together = words(self.labels + labels)
        timed = tuple(label for label in together if label not in always)
        return Labelled(together, self.events + events, timed)


def read_labels(path: Path, origins: Collection[str]) -> dict[str, Labelled]:
    """Read a label CSV: the columns `path` and `labels`, and perhaps `start_s` and `end_s`.

    With times, a path may have many rows, and a row without them holds for the whole recording.

    Raises:
        UserError: it is damaged, or names other files than `origins`.
    """
    known: dict[str, Labelled] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = set(reader.fieldnames or ())
            if missing := {"path", "labels"} - columns:
                raise UserError(
                    f"{path} lacks the column {' and '.join(sorted(missing))}; its first line must "
                    "name the columns path and labels, several labels separated by ;"
                )
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                whole = None not in row and None not in row.values()
                name = normal_name(row["path"]) if whole else ""
                if not whole or (name in known and not columns >= TIMES):
                    raise UserError(
                        f"{where}: a row has as many cells as the first line (put quotes around a "
                        "comma in a name), and no path twice, unless with start_s and end_s"
                    )
                labels = words(row["labels"].split(";"))
                events = _events(row, labels, where) if columns >= TIMES else ()
                known[name] = known.get(name, Labelled()).joined(labels, events)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a CSV of labels: {error}") from error
    if absent := sorted(known.keys() - set(origins)):
        raise UserError(
            f"{path} names {len(absent)} files that are not there, the first is "
            f"{absent[0]}; paths are relative to the folder, or to the tar"
        )
    return known


def _events(row: dict[str, str], labels: tuple[str, ...], where: str) -> tuple[Event, ...]:
    """Return what a row of a CSV with times says; nothing if both times are empty."""
    times = row["start_s"].strip(), row["end_s"].strip()
    if not any(times):
        return ()
    try:
        start_s, end_s = map(float, times)
    except ValueError:
        start_s = end_s = inf
    if not 0 <= start_s <= end_s < inf:
        raise UserError(f"{where}: start_s {times[0]!r} and end_s {times[1]!r} are no time span, s")
    return tuple(Event(label, start_s, end_s) for label in labels)

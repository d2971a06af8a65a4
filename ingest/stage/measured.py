"""What is found out about each recording of a source, once, and kept beside the shard sets."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from audio_barlow_twins.shards.base.ahead import ahead, all_threads
from audio_barlow_twins.shards.base.errors import ClipError, UserError, first_line
from audio_barlow_twins.shards.base.files import replacing
from audio_barlow_twins.shards.base.place import reaching
from audio_barlow_twins.shards.base.progress import Progress

from ..errors import NetworkTrouble
from ..sources.clip import Clip
from .part import audio_file

log = logging.getLogger(__name__)

Value = TypeVar("Value", bound=tuple)

KEEP_EVERY_S = 30.0
"""Least time between two writings of what is known, s."""
_RECORDING = (
    pa.field("source", pa.string(), nullable=False),
    pa.field("origin", pa.string(), nullable=False),
    pa.field("size", pa.int64(), nullable=False),
    pa.field("mtime_ns", pa.int64(), nullable=False),
)


@dataclass(frozen=True)
class Quantity(Generic[Value]):
    """What to find out about a recording, a named tuple, and where it is kept."""

    file: str
    """Name of the table beside the shard sets."""
    words: tuple[str, str]
    """What the bar says that is done, and the plural for messages: measure, lengths."""
    kind: type[Value]
    columns: tuple[pa.Field, ...]
    """Of the fields of `kind`; the first is never null."""
    measure: Callable[[str], Value]
    """Takes the path of a file; raises ClipError."""

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([*_RECORDING, *self.columns, pa.field("failed", pa.string())])


class _Recording(NamedTuple):
    """What tells a recording, in its state, from others."""

    source: str
    origin: str
    size: int
    """Bytes of its part of an archive, or of its file."""
    mtime_ns: int
    """Of the file or archive; 0 for one behind a URL."""


class _Known(NamedTuple):
    """What was found out about a recording."""

    value: Any
    """None if it could not be measured."""
    failed: str = ""
    """Why it could not, if that may pass; it is measured once more. Else ''."""


def measured(
    quantity: Quantity[Value],
    clips: Sequence[Clip],
    out: Path,
    planned: bool = False,
    threads: int = 0,
) -> list[Value | None]:
    """Return the quantity of each recording; None of one that cannot be measured.

    What `out` keeps from an earlier run is not measured again, unless its file has changed. An
    interrupted call keeps what it has measured.

    Args:
        clips: whole recordings.
        out: folder or URL that holds the shard sets.
        planned: shards were made by what `out` keeps, so it holds for files that have changed, too.
        threads: how many recordings are measured at a time; 0: one a core.

    Raises:
        UserError: some could not be measured for a reason that may pass; see `_judged`.
    """
    table = _Table(out / quantity.file, quantity)
    known = table.read()
    recordings = _recordings(clips, known if planned else {})
    lacking = [
        (recording, clip)
        for recording, clip in zip(recordings, clips, strict=True)
        if recording not in known or known[recording].failed
    ]
    if lacking:
        log.info("%d recordings, %d to %s", len(clips), len(lacking), quantity.words[0])
        _learn(known, _measure(quantity, lacking, threads or all_threads()), table)
    _stop_if_it_may_pass([(clip, known[each].failed) for each, clip in lacking])
    return [known[recording].value for recording in recordings]


def _learn(
    known: dict[_Recording, _Known],
    results: Iterator[tuple[_Recording, Any]],
    table: "_Table",
) -> None:
    """Add results to what is known, and keep it in the table, though the run may be stopped."""
    keep = _Keeper(table, known)
    try:
        for recording, result in results:
            known[recording] = _judged(result, tried=recording in known)
            keep()
    finally:
        keep(now=True)


def _stop_if_it_may_pass(results: list[tuple[Clip, str]]) -> None:
    """Raise UserError if a recording of these could not be measured for such a reason."""
    if failed := [(clip, why) for clip, why in results if why]:
        clip, why = failed[0]
        raise UserError(
            f"{len(failed)} recordings could not be measured, the first is {clip.origin}: {why}; "
            "run the same command again (what was measured is kept)"
        )


def _measure(
    quantity: Quantity[Value], lacking: list[tuple[_Recording, Clip]], threads: int
) -> Iterator[tuple[_Recording, Value | ClipError]]:
    def measure(pair: tuple[_Recording, Clip]) -> Value:
        with audio_file(pair[1]) as path:
            return quantity.measure(path)

    with Progress(total=len(lacking), title=quantity.words[0], unit="recording") as bar:
        for (recording, _), value in ahead(measure, lacking, threads, 4 * threads):
            try:
                yield recording, value.result()
            except ClipError as error:
                yield recording, error
            bar.update(1)


def _judged(result: tuple | ClipError, tried: bool) -> _Known:
    """Return what a measuring has shown.

    A reason that may pass is no verdict the first time, and that of a network never is.
    """
    if not isinstance(result, ClipError):
        return _Known(result)
    passes = isinstance(result, NetworkTrouble) or (result.retry_after is not None and not tried)
    return _Known(None, str(result) if passes else "")  # else the clip's row will say why


def _recordings(clips: Sequence[Clip], known: dict[_Recording, _Known]) -> list[_Recording]:
    """Return recordings in the state in which they were measured, or else as they are."""
    earlier = {each[:2]: each for each in known}
    recordings = [_recording(clip) for clip in clips]
    found = [earlier.get(each[:2], each) for each in recordings]
    if changed := sum(one != other for one, other in zip(recordings, found, strict=True)):
        log.warning(
            "%d recordings have changed since this set was planned; their pieces stay as planned, "
            "and a set of its own (--out) takes them as they are",
            changed,
        )
    return found


def _recording(clip: Clip) -> _Recording:
    size, mtime_ns = clip.archive_bytes or 0, 0
    if "://" not in clip.path:
        with suppress(OSError):  # the clip's row will say why
            status = Path(clip.path).stat()
            size, mtime_ns = status.st_size, status.st_mtime_ns
    return _Recording(clip.source, clip.origin, clip.part[1] if clip.part else size, mtime_ns)


class _Keeper:
    """Write what is known now and then, so that a kill costs little."""

    def __init__(self, table: "_Table", known: dict[_Recording, _Known]) -> None:
        self.table, self.known, self.due = table, known, time.monotonic() + KEEP_EVERY_S

    def __call__(self, now: bool = False) -> None:
        begin = time.monotonic()
        if now or begin > self.due:
            self.table.write(self.known)
            end = time.monotonic()
            self.due = end + max(KEEP_EVERY_S, 20 * (end - begin))


class _Table:
    """The Parquet file of a quantity."""

    def __init__(self, path: Path, quantity: Quantity[Any]) -> None:
        self.path, self.quantity = path, quantity

    def read(self) -> dict[_Recording, _Known]:
        with reaching(self.path):
            if not self.path.exists():
                return {}
            content = self.path.read_bytes()
        try:
            table = pq.read_table(pa.BufferReader(content))
        except pa.ArrowException as error:
            raise UserError(f"{self.path} is damaged ({first_line(error)}); delete it") from error
        if table.schema != self.quantity.schema:
            kind = self.quantity.words[1]
            raise UserError(f"{self.path} does not have the columns of our {kind}; delete it")
        columns = list(table.to_pydict().values())
        recordings = zip(*columns[: len(_RECORDING)], strict=True)
        values = zip(*columns[len(_RECORDING) : -1], strict=True)
        found = [None if each[0] is None else self.quantity.kind(*each) for each in values]
        return dict(
            zip(map(_Recording._make, recordings), map(_Known, found, columns[-1]), strict=True)
        )

    def write(self, known: dict[_Recording, _Known]) -> None:
        rows = [
            {**recording._asdict(), **(value._asdict() if value else {}), "failed": failed}
            for recording, (value, failed) in known.items()
        ]
        with replacing(self.path) as scratch:
            pq.write_table(pa.Table.from_pylist(rows, schema=self.quantity.schema), scratch)

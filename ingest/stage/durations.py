"""How long the recordings of a source are; measured once, and kept beside the shard sets."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from audio_barlow_twins.shards.base.ahead import ahead, all_threads
from audio_barlow_twins.shards.base.errors import ClipError, UserError, first_line
from audio_barlow_twins.shards.base.files import replacing
from audio_barlow_twins.shards.base.place import reaching
from audio_barlow_twins.shards.base.progress import Progress
from audio_barlow_twins.shards.decode.cut import DecodeLimits
from audio_barlow_twins.shards.decode.reading import Length
from audio_barlow_twins.shards.decode.sound import duration_of

from ..errors import NetworkTrouble
from ..sources.clip import Clip
from ..sources.source import LONGEST_S
from .part import audio_file

log = logging.getLogger(__name__)

FILE = "durations.parquet"
KEEP_EVERY_S = 30.0
"""Least time between two writings of what is known, s."""
_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("seconds", pa.float64()),
        pa.field("rest", pa.string()),
        pa.field("failed", pa.string()),
    ]
)


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

    length: Length | None
    """None if it could not be measured."""
    failed: str = ""
    """Why it could not, if that may pass; it is measured once more. Else ''."""


def durations(
    clips: Sequence[Clip],
    out: Path,
    limits: DecodeLimits,
    planned: bool = False,
    threads: int = 0,
) -> list[Length | None]:
    """Return the length of each recording; None of one that cannot be measured.

    What `out` keeps from an earlier run is not measured again, unless its file has changed. An
    interrupted call keeps what it has measured.

    Args:
        clips: whole recordings.
        out: folder or URL that holds the shard sets.
        limits: bounds on a file; the length has none.
        planned: shards were made by what `out` keeps, so it holds for files that have changed, too.
        threads: how many recordings are measured at a time; 0: one a core.

    Raises:
        UserError: some could not be measured for a reason that may pass; see `_judged`.
    """
    known = _read(out / FILE)
    recordings = _recordings(clips, known if planned else {})
    lacking = [
        (recording, clip)
        for recording, clip in zip(recordings, clips, strict=True)
        if recording not in known or known[recording].failed
    ]
    if lacking:
        log.info("%d recordings, the lengths of %d to measure", len(clips), len(lacking))
        keep = _Keeper(out / FILE, known)
        try:
            for recording, result in _measure(lacking, limits, threads or all_threads()):
                known[recording] = _judged(result, tried=recording in known)
                keep()
        finally:
            keep(now=True)
    _stop_if_it_may_pass([(clip, known[each].failed) for each, clip in lacking])
    return [known[recording].length for recording in recordings]


def _stop_if_it_may_pass(measured: list[tuple[Clip, str]]) -> None:
    """Raise UserError if a recording of these could not be measured for such a reason."""
    if failed := [(clip, why) for clip, why in measured if why]:
        clip, why = failed[0]
        raise UserError(
            f"{len(failed)} recordings could not be measured, the first is {clip.origin}: {why}; "
            "run the same command again (what was measured is kept)"
        )


def _measure(
    lacking: list[tuple[_Recording, Clip]], limits: DecodeLimits, threads: int
) -> Iterator[tuple[_Recording, Length | ClipError]]:
    def measure(pair: tuple[_Recording, Clip]) -> Length:
        with audio_file(pair[1]) as path:
            return duration_of(path, limits, LONGEST_S - 1)

    with Progress(total=len(lacking), title="measure", unit="recording") as bar:
        for (recording, _), length in ahead(measure, lacking, threads, 4 * threads):
            try:
                yield recording, length.result()
            except ClipError as error:
                yield recording, error
            bar.update(1)


def _judged(result: Length | ClipError, tried: bool) -> _Known:
    """Return what a measuring has shown.

    A reason that may pass is no verdict the first time, and that of a network never is.
    """
    if isinstance(result, Length):
        return _Known(result)
    passes = isinstance(result, NetworkTrouble) or (result.retry_after is not None and not tried)
    return _Known(None, str(result) if passes else "")  # else the clip's row will say why


def _recordings(clips: Sequence[Clip], known: dict[_Recording, _Known]) -> list[_Recording]:
    """Return recordings in the state in which they were measured, or else as they are."""
    measured = {each[:2]: each for each in known}
    recordings = [_recording(clip) for clip in clips]
    found = [measured.get(each[:2], each) for each in recordings]
    if changed := sum(one != other for one, other in zip(recordings, found, strict=True)):
        log.warning(
            "%d recordings have changed since this set was planned; their pieces stay as planned, "
            "and a set of its own (--out) takes them as they are",
            changed,
        )
    return found


class _Keeper:
    """Write what is known now and then, so that a kill costs little."""

    def __init__(self, path: Path, known: dict[_Recording, _Known]) -> None:
        self.path, self.known, self.due = path, known, time.monotonic() + KEEP_EVERY_S

    def __call__(self, now: bool = False) -> None:
        begin = time.monotonic()
        if now or begin > self.due:
            _write(self.path, self.known)
            end = time.monotonic()
            self.due = end + max(KEEP_EVERY_S, 20 * (end - begin))


def _recording(clip: Clip) -> _Recording:
    size, mtime_ns = clip.archive_bytes or 0, 0
    if "://" not in clip.path:
        with suppress(OSError):  # the clip's row will say why
            status = Path(clip.path).stat()
            size, mtime_ns = status.st_size, status.st_mtime_ns
    return _Recording(clip.source, clip.origin, clip.part[1] if clip.part else size, mtime_ns)


def _read(path: Path) -> dict[_Recording, _Known]:
    with reaching(path):
        if not path.exists():
            return {}
        content = path.read_bytes()
    try:
        table = pq.read_table(pa.BufferReader(content))
    except pa.ArrowException as error:
        raise UserError(f"{path} is damaged ({first_line(error)}); delete it") from error
    if table.schema != _SCHEMA:
        raise UserError(f"{path} does not have the columns of our lengths; delete it")
    *state, seconds, rest, failed = table.to_pydict().values()
    lengths = [None if s is None else Length(s, why) for s, why in zip(seconds, rest, strict=True)]
    return dict(zip(map(_Recording, *state), map(_Known, lengths, failed), strict=True))


def _write(path: Path, known: dict[_Recording, _Known]) -> None:
    rows = [
        {**recording._asdict(), **(length._asdict() if length else {}), "failed": failed}
        for recording, (length, failed) in known.items()
    ]
    with replacing(path) as scratch:
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), scratch)

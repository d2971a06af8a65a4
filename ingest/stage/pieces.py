"""Long recordings become consecutive clips: a pure function of the list and of their lengths."""

import logging
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace

from audio_barlow_twins.shards.base.digest import digest
from audio_barlow_twins.shards.decode.reading import Length
from audio_barlow_twins.shards.decode.track import SAMPLE_RATE
from audio_barlow_twins.shards.stored.writer import KEY_BYTES

from ..sources.clip import Clip, Event
from ..sources.source import LONGEST_S, Pieces

log = logging.getLogger(__name__)

_HASH = 5


def in_pieces(
    clips: Sequence[Clip], lengths: Sequence[Length | None], pieces: Pieces, least_samples: int
) -> list[Clip]:
    """Cut what is longer than `LONGEST_S`; the others stay as they are.

    Args:
        clips: whole recordings.
        lengths: of each, None where it is not known; such a clip is refused if it turns out long.
            What may follow behind one that could not be read to its end is a clip of its own, which
            is refused.
        pieces: how to cut.
        least_samples: shortest clip, samples at 16 kHz; a shorter rest belongs to the last piece.
    """
    found, between = [], 0
    names = {clip.key for clip in clips}
    for clip, length in zip(clips, lengths, strict=True):
        if length is None:
            found.append(replace(clip, cut="unmeasured"))
        elif length.seconds <= LONGEST_S or clip.duplicate_of:
            found.append(replace(clip, length_s=length.seconds))
        else:
            spans = list(_spans(round(length.seconds * SAMPLE_RATE), pieces, least_samples))
            events, lost = _by_span(clip.events, spans)
            found += [_piece(clip, *each, names) for each in zip(spans, events, strict=True)]
            between += sum(event.start_s < length.seconds for event in lost)
            if length.rest:
                found.append(_rest(clip, length, names))
    if between:
        log.warning("%d events lie between pieces, because of --hop-s", between)
    return found


def _spans(n_samples: int, pieces: Pieces, least: int) -> Iterator[tuple[int, int]]:
    """Yield first sample and end (exclusive) of each piece, at 16 kHz."""
    length, hop = (round(each * SAMPLE_RATE) for each in (pieces.piece_s, pieces.step_s))
    begin = end = 0
    while end < n_samples and begin < n_samples:
        end = begin + length
        if end + least > n_samples:
            end = n_samples
        yield begin, end
        begin += hop
        if end < begin < n_samples < begin + least:
            return  # too short a rest behind a gap


def _by_span(
    events: Sequence[Event], spans: Sequence[tuple[int, int]]
) -> tuple[list[list[Event]], list[Event]]:
    """Return the events in each span, and those in none.

    An event is where some of it is, or where it begins.
    """
    starts, ends = zip(*map(_seconds, spans), strict=True)
    found, lost = [list[Event]() for _ in spans], []
    for event in events:
        first = bisect_right(ends, event.start_s)
        stop = max(bisect_left(starts, event.end_s), bisect_right(starts, event.start_s))
        for inside in found[first:stop]:
            inside.append(event)
        if first >= stop:
            lost.append(event)
    return found, lost


def _piece(clip: Clip, span: tuple[int, int], inside: Sequence[Event], names: Set[str]) -> Clip:
    start_s, end_s = _seconds(span)
    events = tuple(
        Event(
            event.label,
            max(event.start_s - start_s, 0.0),
            min(event.end_s, end_s) - start_s,
        )
        for event in inside
    )
    here = {event.label for event in events}
    return replace(
        clip,
        key=_key(clip, *span, names),
        labels=tuple(label for label in clip.labels if label in here or label not in clip.timed),
        events=events,
        start_s=start_s,
        end_s=end_s,
        cut="needed",
    )


def _seconds(span: tuple[int, int]) -> tuple[float, float]:
    begin, end = span
    return begin / SAMPLE_RATE, end / SAMPLE_RATE


def _rest(clip: Clip, length: Length, names: Set[str]) -> Clip:
    end = round(length.seconds * SAMPLE_RATE)
    rest = _piece(clip, (end, end), (), names)
    why = f"what follows {length.seconds:.2f} s, if anything does, cannot be read: {length.rest}"
    return replace(rest, end_s=None, labels=(), refused=why)


def _key(clip: Clip, begin: int, end: int, names: Set[str]) -> str:
    """Return `NAME_startms_endms`.

    A name that is too long, or leads to a key of another recording (`names`), is cut and ends with
    a hash of its origin.
    """
    start_ms, end_ms = (round(at * 1000 / SAMPLE_RATE) for at in (begin, end))
    times = f"_{start_ms:08d}_{end_ms:08d}"
    name = clip.key
    if len(name + times) > KEY_BYTES or name + times in names:
        room = KEY_BYTES - len(times) - 1 - 2 * _HASH
        name = f"{name[:room]}-{digest(clip.origin, _HASH)}"
    return name + times

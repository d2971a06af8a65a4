"""Merge several sources into one list of clips: later sources fill the gaps of earlier ones."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from audio_barlow_twins.shards.base.errors import UserError

from .sources.clip import Clip
from .sources.segment import Segment, parse_segment


def compose(sources: Sequence[Iterable[Clip]]) -> list[Clip]:
    """Merge sources by the identity of their clips, in the order of first appearance.

    Clips of the same key are one clip, and so are a clip named after a video alone and the one
    segment of that video in another source. Times and labels come from the first source that
    knows them, the audio from the first that has it.

    Raises:
        UserError: a video without a time could be any of several segments.
    """
    groups: dict[str, list[Clip]] = {}
    segments: dict[str, set[str]] = {}
    for clip in (clip for source in sources for clip in source):
        # A piece of a recording is no segment of a video, though its name may look like one.
        segment = None if clip.is_piece else parse_segment(clip.key)
        key = _key_of(clip.key, segment, segments)
        if segment:
            segments.setdefault(segment.ytid, set()).add(key)
        groups.setdefault(key, []).append(clip)
    _join_bare(groups, segments)
    return [_merged(key, group) for key, group in groups.items()]


def _key_of(key: str, segment: Segment | None, segments: dict[str, set[str]]) -> str:
    """Return the key of the segment for a clip named after its video alone; else its own."""
    known = segments.get(segment.ytid, set()) if segment else set()
    if not segment or segment.start_ms is not None or not known:
        return key
    return _only(key, known)


def _join_bare(groups: dict[str, list[Clip]], segments: dict[str, set[str]]) -> None:
    """Merge a video that came first, without a time, with the segment listed later."""
    for ytid, keys in segments.items():
        if ytid in keys and len(keys) > 1:
            segment = _only(ytid, keys - {ytid})
            groups[segment] = groups.pop(ytid) + groups[segment]


def _only(name: str, keys: set[str]) -> str:
    if len(keys) > 1:
        raise UserError(
            f"{name} could be {' or '.join(sorted(keys))}: name the file YTID_start, or drop "
            "all but one of the lists"
        )
    return next(iter(keys))


def _merged(key: str, group: list[Clip]) -> Clip:
    labels = next((clip.labels for clip in group if clip.labels), ())
    events = next((clip.events for clip in group if clip.events), ())
    times = next(
        ((clip.start_s, clip.end_s) for clip in group if clip.end_s is not None),
        (group[0].start_s, group[0].end_s),
    )
    start_s, end_s = times
    first, *others = [
        replace(
            clip,
            key=key,
            labels=labels,
            events=events,
            start_s=start_s,
            end_s=end_s,
            # With the times known, a recording named after its video alone can be cut.
            cut=clip.cut if end_s is not None else "done",
        )
        for clip in group
    ]
    return replace(first, others=tuple(others))

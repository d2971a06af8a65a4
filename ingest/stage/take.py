"""Turn a planned clip into samples, or into the row of its failure, whatever its source."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np

from audio_barlow_twins.shards.base.ahead import ahead
from audio_barlow_twins.shards.base.errors import ClipError
from audio_barlow_twins.shards.decode.cut import Cut, DecodeLimits
from audio_barlow_twins.shards.decode.errors import BadAudio, DecoderStopped
from audio_barlow_twins.shards.decode.ffmpeg import Stream, decoder_version
from audio_barlow_twins.shards.decode.sound import decode, decode_pieces
from audio_barlow_twins.shards.decode.track import SAMPLE_RATE
from audio_barlow_twins.shards.stored.sidecar import Row, now

from ..errors import BadEntry, Duplicate
from ..sources.clip import Clip
from ..sources.source import LONGEST_S
from ..video.download import Downloader, Trail
from ..video.fetcher import downloader_version
from .part import audio_file
from .plan import PlannedShard
from .spool import Spool

Taken = tuple[Row, np.ndarray | None]
"""A clip's row, and its samples, int16 [samples], or None if it failed."""


class Taker:
    """Get clips; safe to use from several threads."""

    def __init__(
        self, limits: DecodeLimits, spool: Spool | None, downloader: Downloader | None
    ) -> None:
        self.limits, self.spool, self.downloader = limits, spool, downloader

    def take(self, clip: Clip, attempts: int = 0) -> Taken:
        """Return a clip from the first source that has it; `attempts` were made before."""
        if self.spool and (kept := self.spool.get(clip.key)):
            return kept
        trail, failures, version = Trail(attempts), list[tuple[Clip, ClipError]](), ""
        for source in (clip, *clip.others):
            try:
                samples, version = self._samples(source, trail)
            except ClipError as error:
                failures.append((source, error))
            else:
                taken: Taken = _row(source, trail, version, len(samples)), samples
                break
        else:
            taken = _failed(clip, trail, failures), None
        if self.spool:
            self.spool.put(*taken)
        return taken

    def take_pieces(self, planned: Sequence[tuple[Clip, int]]) -> Iterator[Taken]:
        """Yield pieces of one recording, with how often each was tried before."""
        waiting = iter(planned)
        cuts = [cut for clip, _ in planned if (cut := _cut(clip))]
        try:
            with audio_file(planned[0][0]) as path:
                for piece in decode_pieces(path, self.limits, cuts):
                    yield _piece(*next(waiting), piece)
        except ClipError as error:  # there is no such file, or it cannot be opened
            for clip, attempts in waiting:
                yield _piece(clip, attempts, error)

    def _samples(self, clip: Clip, trail: Trail) -> tuple[np.ndarray, str]:
        """Return int16 [samples] and the versions of the tools that made them."""
        if clip.duplicate_of:
            raise Duplicate(f"sounds like {clip.duplicate_of}")
        if clip.refused:
            raise (BadAudio if clip.is_piece else BadEntry)(clip.refused)
        if clip.video:
            return self._samples_of_video(clip, _cut(clip), trail)
        trail.attempts += 1
        with audio_file(clip) as path:
            samples = decode(path, self.limits, _cut(clip))
        if clip.cut == "unmeasured" and len(samples) > LONGEST_S * SAMPLE_RATE:
            raise BadAudio(
                f"longer than {LONGEST_S:g} s, and not cut, because it could not be measured when "
                "this set was planned; ingest it into a set of its own"
            )
        return samples, decoder_version()

    def _samples_of_video(
        self, clip: Clip, cut: Cut | None, trail: Trail
    ) -> tuple[np.ndarray, str]:
        if self.downloader is None:
            raise ValueError(f"{clip.key} is a video, and this job has no way to get one")
        with tempfile.TemporaryDirectory(prefix="video-") as folder:
            media = self.downloader.get(clip, Path(folder), trail, whole=cut is None)
            if media.url:
                proxy = self.downloader.identities[trail.identity].proxy
                timeout_s = min(self.limits.timeout_s, self.downloader.videos.timeout_s)
                limits = replace(self.limits, timeout_s=timeout_s)
                try:
                    samples = decode(Stream(media.url, media.headers, proxy), limits, cut)
                except (BadAudio, DecoderStopped):  # no ranges, damaged or too slow: take it all
                    media = self.downloader.get(clip, Path(folder), trail, whole=True)
            if not media.url:
                samples = decode(media.path, self.limits, cut)
            return samples, f"{media.version} ({media.format}), {decoder_version()}"


def in_order(taker: Taker, shard: PlannedShard, at_once: int) -> Iterator[Taken]:
    """Yield the clips of a shard in order, while `at_once` threads work ahead.

    At most twice as many clips wait in memory. Pieces of one recording come from one pass over it.
    """
    attempts = shard.attempts or (0,) * len(shard.clips)
    planned = zip(shard.clips, attempts, strict=True)
    for recording, group in groupby(planned, lambda each: _recording(each[0])):
        if recording is None:
            yield from _ahead(taker, group, at_once)
        else:
            yield from taker.take_pieces(list(group))


def _recording(clip: Clip) -> tuple | None:
    """Return what pieces of one recording have in common; None for a clip of any other kind."""
    alone = clip.is_piece and not (clip.others or clip.refused)
    return (clip.path, clip.part, clip.row) if alone else None


def _ahead(taker: Taker, planned: Iterable[tuple[Clip, int]], at_once: int) -> Iterator[Taken]:
    taken = ahead(lambda each: taker.take(*each), planned, at_once, 2 * at_once)
    ended = False
    try:
        for _, clip in taken:
            yield clip.result()
        ended = True
    finally:
        if not ended and taker.downloader:
            taker.downloader.close()
        taken.close()


def _piece(clip: Clip, attempts: int, piece: np.ndarray | ClipError) -> Taken:
    trail = Trail(attempts + 1)
    if isinstance(piece, ClipError):
        return _failed(clip, trail, [(clip, piece)]), None
    return _row(clip, trail, decoder_version(), len(piece)), piece


def _cut(clip: Clip) -> Cut | None:
    if clip.cut in ("done", "unmeasured") or clip.start_s is None or clip.end_s is None:
        return None
    perhaps = clip.cut == "perhaps"
    return Cut(clip.start_s, clip.end_s, perhaps_done=perhaps, complete=clip.is_piece)


def _row(clip: Clip, trail: Trail, version: str, n_samples: int) -> Row:
    start_s = clip.start_s or 0.0
    return Row(
        key=clip.key,
        status="ok",
        attempts=trail.attempts,
        tried_at=now(),
        identity=trail.identity,
        source=clip.source,
        source_version=version,
        origin=clip.origin,
        labels=list(clip.labels),
        events=[event._asdict() for event in clip.events],
        start_s=start_s,
        end_s=start_s + n_samples / SAMPLE_RATE,
    )


def _failed(clip: Clip, trail: Trail, failures: list[tuple[Clip, ClipError]]) -> Row:
    """Return the row of a clip that no source has; a failure that may pass takes precedence."""
    source, error = next(
        ((source, error) for source, error in failures if error.retry_after is not None),
        failures[0],
    )
    message = str(error)
    if len(failures) > 1:
        message = "; ".join(f"{source.source}: {error}" for source, error in failures)
    version = decoder_version()
    if any(source.video for source, _ in failures):
        version = f"{downloader_version()}, {version}"
    row = _row(source, trail, version, 0)
    return replace(
        row,
        status="failed",
        failure=error.slug,
        message=message,
        source=", ".join(source.source for source, _ in failures),
        start_s=0.0 if clip.end_s is None and clip.length_s is not None else clip.start_s,
        end_s=clip.length_s if clip.end_s is None else clip.end_s,
    )

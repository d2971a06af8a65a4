"""Recordings that sound the same, whatever their files: found by a coarse image of their log-mel.

Chromaprint, which libraries use for this, knows no sound of less than some seconds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from audio_barlow_twins.shards.decode.cut import DecodeLimits
from audio_barlow_twins.shards.decode.sound import decode

from ..sources.clip import Clip
from .measured import Quantity, measured

if TYPE_CHECKING:  # torch is loaded only where recordings are compared
    from audio_barlow_twins.shards.stored.logmel import LogMel

BINS = slice(2, 42)
"""Mel bins that count: 100 Hz to 3.5 kHz, which telephone codecs keep."""
SLICES = 32
"""Parts into which the length is divided; with the bins they are the cells of a fingerprint."""
CELLS = SLICES * (BINS.stop - BINS.start)
QUIET_DB, FLOOR_DB = 25.0, 35.0
"""Ends this far below the loudest cell are cut off, and cells fall no further than FLOOR_DB."""
STEP_DB = 0.5
"""Rounding of a cell."""
SAME_DB = 1.0
"""Root mean square difference of cells, but for a gain, below which recordings are the same.

Measured on 55 sounds of the demo corpus, coded anew: mu-law of 8 kHz 0.15 in the median and 0.57 at
most, MP3 of 96 kb/s 0.2, Opus of 64 kb/s 0.3 (0.66 at the 95th percentile), G.722 0.5 (a fifth is
above 1). Two strokes of its tabla differ by 0.74, any other two of its 220 sounds by more than 2.5.
In the reference corpus, dialling tones and chords of one guitar come as near as that.
"""
SAME_FRAMES, SAME_SHARE = 3, 0.02
"""How far lengths may differ: frames of 10 ms, and their share; the larger one counts."""
_DB = 10 / np.log(10)


class Fingerprint(NamedTuple):
    """How a recording sounds."""

    cells: bytes
    """int8 [SLICES, 40], steps of STEP_DB, with a mean of 0."""
    n_frames: int
    """Length without quiet ends, frames of 10 ms."""


def fingerprint_of(pcm: np.ndarray, mel: "LogMel") -> Fingerprint:
    """Return the fingerprint of a sound, int16 [samples] at 16 kHz, by the paper's log-mel.

    It stands between two windows of silence, so that it begins alike behind whatever else.
    """
    import torch

    window = mel.front_end.window
    logmel = mel(torch.from_numpy(np.pad(pcm, window))[None])[0]
    return fingerprint_of_logmel(logmel.detach().double().numpy())


def fingerprint_of_logmel(logmel: np.ndarray) -> Fingerprint:
    """Return the fingerprint of log-mel frames, float [T, 64]."""
    bands = logmel[:, BINS] * _DB
    (loud,) = np.nonzero(bands.max(axis=1) > bands.max() - QUIET_DB)
    bands = np.maximum(bands[loud[0] : loud[-1] + 1], bands.max() - FLOOR_DB)
    edges = np.linspace(0, len(bands), SLICES + 1)
    sums = np.vstack([np.zeros_like(bands[:1]), bands.cumsum(axis=0)])
    whole = np.minimum(edges.astype(int), len(bands) - 1)
    until = sums[whole] + (edges - whole)[:, None] * bands[whole]
    cells = np.diff(until, axis=0) / np.diff(edges)[:, None]
    return Fingerprint(
        np.round((cells - cells.mean()) / STEP_DB).astype(np.int8).tobytes(), len(bands)
    )


def drop_duplicates(
    clips: Sequence[Clip], out: Path, limits: DecodeLimits, planned: bool = False
) -> list[Clip]:
    """Return the clips, each that sounds like an earlier one marked as its duplicate.

    Args:
        clips: whole recordings.
        out: folder or URL of the shard sets, which keeps the fingerprints.
        planned: see `measured`.
    """
    from audio_barlow_twins.shards.stored.logmel import LogMel

    mel = LogMel().requires_grad_(False)
    fingerprints = Quantity(
        file="fingerprints.parquet",
        words=("compare", "fingerprints"),
        kind=Fingerprint,
        columns=(pa.field("cells", pa.binary()), pa.field("n_frames", pa.int32())),
        measure=lambda path: fingerprint_of(decode(path, limits), mel),
    )
    found = duplicates(measured(fingerprints, clips, out, planned))
    return [
        clip if first is None else replace(clip, duplicate_of=clips[first].origin)
        for clip, first in zip(clips, found, strict=True)
    ]


def duplicates(fingerprints: Sequence[Fingerprint | None]) -> list[int | None]:
    """Return for each recording the first one that sounds the same, None if it is itself that."""
    same: list[list[int]] = [[] for _ in fingerprints]
    for one, other in _pairs(fingerprints):
        same[max(one, other)].append(min(one, other))
    firsts: list[int | None] = []
    for earlier in same:
        kept = [each for each in earlier if firsts[each] is None]
        firsts.append(min(kept) if kept else None)
    return firsts


def _pairs(fingerprints: Sequence[Fingerprint | None]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of recordings that sound the same."""
    known = [(each, number) for number, each in enumerate(fingerprints) if each]
    known.sort(key=lambda pair: pair[0].n_frames)
    lengths = np.array([each.n_frames for each, _ in known])
    bits = b"".join(each.cells for each, _ in known)
    cells = np.frombuffer(bits, np.int8).reshape(-1, CELLS) * np.float32(STEP_DB)
    ends = np.searchsorted(
        lengths, np.maximum(lengths + SAME_FRAMES, lengths * (1 + SAME_SHARE)), side="right"
    )
    for one, end in enumerate(ends):
        differences = np.square(cells[one + 1 : end] - cells[one]).mean(axis=1)
        for other in np.flatnonzero(differences < SAME_DB**2):
            yield known[one][1], known[one + 1 + other][1]

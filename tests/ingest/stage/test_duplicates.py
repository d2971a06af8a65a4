"""Recordings that sound the same: found in other codings, and nothing else is."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio_barlow_twins.ingest.sources.clip import Clip
from audio_barlow_twins.ingest.sources.demo.corpus import demo_clips
from audio_barlow_twins.ingest.stage.duplicates import (
    CELLS,
    SAME_DB,
    SAME_FRAMES,
    SAME_SHARE,
    SLICES,
    STEP_DB,
    Fingerprint,
    drop_duplicates,
    duplicates,
    fingerprint_of,
    fingerprint_of_logmel,
)
from audio_barlow_twins.shards.decode.cut import DecodeLimits
from audio_barlow_twins.shards.decode.sound import decode
from audio_barlow_twins.shards.stored.logmel import LogMel

LIMITS = DecodeLimits(min_samples=513, max_s=60)
CODINGS = {
    "flac": ["-c:a", "flac", "-af", "volume=-6dB"],
    "wav": ["-c:a", "pcm_mulaw", "-ar", "8000"],
    "mp3": ["-c:a", "libmp3lame", "-b:a", "96k"],
    "opus": ["-c:a", "libopus", "-b:a", "64k"],
}


def clips_of(folder: Path) -> list[Clip]:
    return [
        Clip(key=path.name, source="s", path=str(path), origin=path.name)
        for path in sorted(folder.iterdir())
    ]


@pytest.fixture(scope="module")
def originals() -> list[Path]:
    """Return a dozen sounds of the demo corpus of many kinds, from 0.3 s to 3 s."""
    found = [Path(clip.path) for clip in demo_clips()]
    long = [path for path in found if 0.3 < soundfile.info(path).duration < 3]
    return long[:: len(long) // 12][:12]


@pytest.mark.parametrize("ending", CODINGS)
def test_the_same_sound_in_another_coding_is_dropped(
    tmp_path: Path, originals: list[Path], ffmpeg: Callable[..., None], ending: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number, path in enumerate(originals):
        (folder / f"{number:02d}-a.opus").write_bytes(path.read_bytes())
        ffmpeg("-i", path, *CODINGS[ending], folder / f"{number:02d}-b.{ending}")
    found = drop_duplicates(clips_of(folder), tmp_path / "out", LIMITS)
    copies = {clip.origin: clip.duplicate_of for clip in found if "-b." in clip.origin}
    right = sum(first == f"{name[:2]}-a.opus" for name, first in copies.items())
    assert right >= 11
    assert not any(clip.duplicate_of for clip in found if "-a." in clip.origin)


def test_of_the_demo_corpus_one_sound_is_dropped_and_no_other(tmp_path: Path) -> None:
    found = drop_duplicates(demo_clips(), tmp_path, LIMITS)
    same = {(clip.origin, clip.duplicate_of) for clip in found if clip.duplicate_of}
    # They differ by 0.74 dB, any other two of its sounds by more than 2.5.
    assert same == {("tabla/tabla_tun3.opus", "tabla/tabla_tun2.opus")}


def test_silent_ends_and_loudness_do_not_count(originals: list[Path]) -> None:
    mel = LogMel()
    for path in originals:
        pcm = decode(str(path), LIMITS)
        padded = np.pad((0.3 * pcm).astype(np.int16), (1600, 3200))
        one, other = (fingerprint_of(each, mel) for each in (pcm, padded))
        assert abs(one.n_frames - other.n_frames) <= SAME_FRAMES
        assert difference_db(one, other) < SAME_DB


def difference_db(one: Fingerprint, other: Fingerprint) -> float:
    """State the difference of two fingerprints plainly."""
    a, b = (
        [STEP_DB * cell for cell in np.frombuffer(each.cells, np.int8)] for each in (one, other)
    )
    return float(np.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)))


def test_the_picture_averages_log_mel_over_equal_parts_of_the_length() -> None:
    rng = np.random.default_rng(0)
    logmel = rng.uniform(-1, 1, (5 * SLICES, 64))
    fingerprint = fingerprint_of_logmel(logmel)
    decibels = 10 / np.log(10) * logmel[:, 2:42]
    parts = np.array([part.mean(axis=0) for part in np.array_split(decibels, SLICES)])
    cells = np.frombuffer(fingerprint.cells, np.int8).reshape(SLICES, 40) * STEP_DB
    assert fingerprint.n_frames == 5 * SLICES
    np.testing.assert_allclose(cells, parts - parts.mean(), atol=STEP_DB / 2 + 1e-9)


def test_duplicates_are_those_of_a_search_through_all_pairs() -> None:
    rng = np.random.default_rng(1)
    kinds = rng.integers(-20, 20, (15, CELLS))
    fingerprints: list[Fingerprint | None] = []
    for _ in range(80):
        cells = kinds[rng.integers(15)] + rng.integers(0, 3, CELLS)
        fingerprints.append(Fingerprint(cells.astype(np.int8).tobytes(), int(rng.integers(50, 60))))
    fingerprints[7] = None
    expected: list[int | None] = []
    for number, fingerprint in enumerate(fingerprints):
        firsts = [
            earlier
            for earlier in range(number)
            if fingerprint and (other := fingerprints[earlier]) and expected[earlier] is None
            and abs(fingerprint.n_frames - other.n_frames)
            <= max(SAME_FRAMES, SAME_SHARE * min(fingerprint.n_frames, other.n_frames))
            and difference_db(fingerprint, other) < SAME_DB
        ]  # fmt: skip
        expected.append(firsts[0] if firsts else None)
    assert duplicates(fingerprints) == expected
    assert any(each is not None for each in expected)


def test_recordings_without_sound_are_no_duplicates(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    soundfile.write(tmp_path / "b.wav", np.zeros(16_000), 16_000)
    (tmp_path / "c.wav").write_bytes(b"no sound")
    found = drop_duplicates(clips_of(tmp_path), tmp_path / "out", LIMITS)
    assert [clip.duplicate_of for clip in found] == ["", "", ""]


def test_what_was_compared_is_not_compared_again(
    tmp_path: Path, originals: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from audio_barlow_twins.ingest.stage import duplicates as comparing

    folder = tmp_path / "in"
    folder.mkdir()
    for number, path in enumerate([*originals[:2], originals[0]]):
        (folder / f"{number}.opus").write_bytes(path.read_bytes())
    first = drop_duplicates(clips_of(folder), tmp_path / "out", LIMITS)
    assert [clip.duplicate_of for clip in first] == ["", "", "0.opus"]

    def never(*_: object) -> np.ndarray:
        raise AssertionError("it was decoded again")

    monkeypatch.setattr(comparing, "decode", never)
    assert drop_duplicates(clips_of(folder), tmp_path / "out", LIMITS) == first


def test_one_of_a_chain_that_drifts_is_compared_with_those_that_are_kept() -> None:
    cells = np.zeros(CELLS, np.int8)
    steps = [cells + drift for drift in (0, 1, 2, 3, 4)]  # 0.5 dB each, of every cell
    alternating = [each * np.resize([1, -1], each.shape) for each in steps]
    fingerprints = [Fingerprint(each.astype(np.int8).tobytes(), 60) for each in alternating]
    assert all(difference_db(a, b) < SAME_DB for a, b in pairwise(fingerprints))
    assert duplicates(fingerprints) == [None, 0, None, 2, None]

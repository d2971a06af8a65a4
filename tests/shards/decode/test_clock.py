"""The recording's clock decides: what lies at t on it lies at t in the whole and in any piece."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_barlow_twins.shards.decode.clock import COUNTED, MP4, OGG, clock_of
from audio_barlow_twins.shards.decode.cut import Cut, DecodeLimits
from audio_barlow_twins.shards.decode.errors import BadAudio
from audio_barlow_twins.shards.decode.sound import decode, duration_of

LIMITS = DecodeLimits()
SECONDS = 40
HOLE_S = 14.0
"""Where holes begin on the clock of the sound."""
WINDOW = 2400
"""Samples that are looked for in the known signal: 0.15 s."""
MARGIN = 2000
"""Samples beside an edge in which a codec may ring or fade."""
MS = 16
CODECS: dict[str, tuple[str, ...]] = {
    "aac": ("-c:a", "aac", "-b:a", "192k"),
    "opus": ("-c:a", "libopus", "-b:a", "160k"),
    "mp3": ("-c:a", "libmp3lame", "-b:a", "192k"),
    "vorbis": ("-c:a", "libvorbis", "-q:a", "7"),
    "flac": ("-c:a", "flac"),
}
CONTAINERS = {
    "aac": ("m4a", "mp4", "mov", "mkv"),
    "opus": ("webm", "mkv", "mp4"),
    "mp3": ("mkv", "mp4"),
    "vorbis": ("webm", "mkv"),
    "flac": ("mkv", "mp4"),
}
PAIRS = [(codec, container) for codec in CODECS for container in CONTAINERS[codec]]
CLUSTER = b"\x1f\x43\xb6\x75"
"""What a cluster of Matroska begins with."""
Ffmpeg = Callable[..., None]


class Recording(NamedTuple):
    """A file, and the known signal on its clock."""

    path: Path
    late_s: float
    hole_s: float


@pytest.fixture(scope="module")
def signal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Return noise below 6 kHz as a file at 48 kHz, and at 16 kHz."""
    base = 0.1 * np.random.default_rng(5).standard_normal(SECONDS * 12000)
    path = tmp_path_factory.mktemp("signal") / "signal.wav"
    soundfile.write(path, soxr.resample(base, 12000, 48000), 48000, "FLOAT")
    return path, soxr.resample(base, 12000, 16000)


@pytest.fixture(scope="module")
def record(
    tmp_path_factory: pytest.TempPathFactory, ffmpeg: Ffmpeg, signal: tuple[Path, np.ndarray]
) -> Callable[..., Recording]:
    """Return a function that makes a recording of the signal, once."""
    folder = tmp_path_factory.mktemp("clock")
    picture = ("-f", "lavfi", "-i", f"color=blue:s=32x32:d={SECONDS + 2}:r=5")

    @cache
    def make(
        codec: str, container: str, late_s: float = 0, hole_s: float = 0, video: bool = False
    ) -> Recording:
        path = folder / f"{codec}-{late_s}-{hole_s}-{video}.{container}"
        whole = path.with_stem(f"{path.stem}-whole")
        late = ("-itsoffset", late_s, "-i", signal[0])
        encoder = "libvpx" if container == "webm" else "mpeg4"
        both = (*picture, *late, "-map", "0:v", "-map", "1:a", "-c:v", encoder)
        ffmpeg(*(both if video else late), *CODECS[codec], whole)
        begin = late_s + HOLE_S
        drop = f"noise=drop='between(pts*tb,{begin},{begin + hole_s - 0.001})'"
        ffmpeg("-copyts", "-i", whole, "-c", "copy", *(("-bsf:a", drop) if hole_s else ()), path)
        return Recording(path, late_s, hole_s)

    return make


def known(recording: Recording, signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the signal on the recording's clock, and where it is known to be zero."""
    wave = np.concatenate([np.zeros(round(recording.late_s * 16000)), signal])
    zero = np.zeros(len(wave), bool)
    zero[: round(recording.late_s * 16000)] = True
    begin = round((recording.late_s + HOLE_S) * 16000)
    zero[begin : begin + round(recording.hole_s * 16000)] = True
    return wave, zero


def assert_on_the_clock(
    piece: np.ndarray, start: int, recording: Recording, signal: np.ndarray, slack: int = MS + 1
) -> None:
    """Look for windows of a piece, which begins at sample `start`, in the known signal."""
    wave, zero = known(recording, signal)
    edges = np.flatnonzero(np.diff(zero.astype(int)))
    looked = 0
    for at in range(0, len(piece) - WINDOW, WINDOW):
        begin, end = start + at, start + at + WINDOW
        if end + 800 > len(wave) or any(begin - MARGIN < e < end + MARGIN for e in edges):
            continue
        window = piece[at : at + WINDOW].astype(float)
        looked += 1
        if zero[begin]:
            assert not window.any(), f"sound at {begin / 16000:.2f} s"
            continue
        near = wave[max(begin - 800, 0) : end + 800]
        lag = int(np.argmax(np.correlate(near, window, "valid"))) - min(begin, 800)
        assert abs(lag) <= slack, f"{lag} samples off at {begin / 16000:.2f} s"
    assert looked


@settings(max_examples=30)
@given(
    pair=st.sampled_from(PAIRS),
    late_s=st.sampled_from([0, 0.7, 3.2]),
    hole_s=st.sampled_from([0, 0.02, 0.08, 0.5, 5]),
    video=st.booleans(),
    start_s=st.sampled_from([0, 2.345, 9.2, 11, 13.37, 17, 20.25, 24]),
)
def test_a_piece_holds_what_lies_there_on_the_recordings_clock(
    record: Callable[..., Recording], signal: tuple[Path, np.ndarray], pair: tuple[str, str],
    late_s: float, hole_s: float, video: bool, start_s: float,
) -> None:  # fmt: skip
    recording = record(*pair, late_s, hole_s, video and pair[1] != "m4a")
    piece = decode(str(recording.path), LIMITS, Cut(start_s, start_s + 10))
    assert len(piece) == 160_000
    assert_on_the_clock(piece, round(start_s * 16000), recording, signal[1])


@pytest.mark.parametrize(("codec", "container"), PAIRS)
def test_the_whole_lies_on_the_clock_to_its_end(
    record: Callable[..., Recording], signal: tuple[Path, np.ndarray], codec: str, container: str
) -> None:
    recording = record(codec, container, 3.2, 0.5, container != "m4a")
    whole = decode(str(recording.path), LIMITS)
    assert abs(len(whole) - 43.2 * 16000) < 0.05 * 16000
    assert_on_the_clock(whole, 0, recording, signal[1])


@pytest.mark.parametrize("container", ["m4a", "mkv", "webm"])
def test_small_holes_add_up_to_nothing(
    record: Callable[..., Recording], signal: tuple[Path, np.ndarray], ffmpeg: Ffmpeg,
    tmp_path: Path, container: str,
) -> None:  # fmt: skip
    whole = record("opus" if container == "webm" else "aac", container)
    drops = "+".join(f"between(pts*tb,{at},{at + 0.079})" for at in (5, 7, 9))
    path = tmp_path / f"a.{container}"
    ffmpeg("-i", whole.path, "-c", "copy", "-bsf:a", f"noise=drop='{drops}'", path)
    late = decode(str(path), LIMITS)[10 * 16000 :]
    assert_on_the_clock(late, 10 * 16000, whole, signal[1])


@pytest.mark.parametrize(("codec", "container"), [("vorbis", "ogg"), ("opus", "ogg")])
def test_what_an_ogg_file_lacks_is_silent_and_the_rest_at_its_place(
    record: Callable[..., Recording], signal: tuple[Path, np.ndarray], codec: str, container: str
) -> None:
    recording = record(codec, container, 0, 5)
    whole = decode(str(recording.path), LIMITS)
    # Ogg tells the time once a page, which holds about a second.
    for begin_s, end_s in ((0, 12), (20, 40)):
        part = whole[begin_s * 16000 : end_s * 16000]
        assert_on_the_clock(part, begin_s * 16000, recording, signal[1])


@pytest.mark.parametrize("codec", ["opus", "vorbis"])
def test_joined_ogg_files_are_read_one_after_the_other(
    record: Callable[..., Recording], tmp_path: Path, codec: str
) -> None:
    one = record(codec, "ogg").path
    (tmp_path / "two.ogg").write_bytes(one.read_bytes() * 2)
    single, joined = decode(str(one), LIMITS), decode(str(tmp_path / "two.ogg"), LIMITS)
    assert abs(len(joined) - 2 * len(single)) < 16 * MS
    np.testing.assert_array_equal(joined[: len(single) - 800], single[:-800])


@pytest.mark.parametrize(("codec", "container"), PAIRS)
def test_a_plain_file_keeps_every_sample_that_its_decoder_gives(
    record: Callable[..., Recording], ffmpeg: Ffmpeg, tmp_path: Path, codec: str, container: str
) -> None:
    path = record(codec, container).path
    ffmpeg("-i", path, "-c:a", "pcm_f32le", tmp_path / "bare.wav")
    bare, rate = soundfile.read(tmp_path / "bare.wav", dtype="float32")
    wanted = np.rint(np.clip(soxr.resample(bare, rate, 16000), -1, 1) * 32768)
    made = decode(str(path), LIMITS)
    assert abs(len(made) - len(wanted)) <= 1
    np.testing.assert_allclose(made[: len(wanted)], wanted[: len(made)], rtol=0, atol=1)


@pytest.mark.parametrize("quiet_s", [(10, 20), (3, 3.5)])
def test_a_change_of_block_size_is_no_hole(
    signal: tuple[Path, np.ndarray], ffmpeg: Ffmpeg, tmp_path: Path, quiet_s: tuple[float, float]
) -> None:
    wave, rate = soundfile.read(signal[0], dtype="float32")
    begin, end = (round(at * rate) for at in quiet_s)
    wave[begin:end] *= 1e-3
    soundfile.write(tmp_path / "a.wav", wave, rate, "FLOAT")
    ffmpeg("-i", tmp_path / "a.wav", "-c:a", "libvorbis", tmp_path / "a.ogg")
    ffmpeg("-i", tmp_path / "a.ogg", "-c:a", "pcm_f32le", tmp_path / "bare.wav")
    np.testing.assert_array_equal(
        decode(str(tmp_path / "a.ogg"), LIMITS), decode(str(tmp_path / "bare.wav"), LIMITS)
    )


@pytest.mark.parametrize("container", ["mkv", "webm"])
def test_a_piece_of_vorbis_is_exact_though_its_blocks_differ_in_length(
    signal: tuple[Path, np.ndarray], ffmpeg: Ffmpeg, tmp_path: Path, container: str
) -> None:
    wave, rate = soundfile.read(signal[0], dtype="float32")
    wave[::4000] += 0.9  # clicks call for short blocks
    wave[: 2 * rate] *= 0
    soundfile.write(tmp_path / "a.wav", wave, rate, "FLOAT")
    ffmpeg("-i", tmp_path / "a.wav", "-c:a", "libvorbis", tmp_path / f"a.{container}")
    whole = decode(str(tmp_path / f"a.{container}"), LIMITS)
    for start_s in (12, 20.3, 30):
        piece = decode(str(tmp_path / f"a.{container}"), LIMITS, Cut(start_s, start_s + 5))
        wanted = whole[round(start_s * 16000) :][:80_000]
        np.testing.assert_allclose(piece, wanted, rtol=0, atol=1)


@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_a_recording_of_a_broadcast_begins_with_its_first_sound(
    record: Callable[..., Recording], signal: tuple[Path, np.ndarray], ffmpeg: Ffmpeg,
    tmp_path: Path, container: str,
) -> None:  # fmt: skip
    plain = record("aac", container)
    fragments = ("-movflags", "frag_keyframe+empty_moov") if container == "mp4" else ()
    path = tmp_path / f"a.{container}"
    late = ("-itsoffset", 5000, "-i", plain.path)
    ffmpeg(*late, "-c", "copy", "-copyts", *fragments, path)
    whole = decode(str(path), LIMITS)
    assert abs(len(whole) - len(decode(str(plain.path), LIMITS))) < 0.05 * 16000
    for start_s in (0, 2, 25):
        piece = decode(str(path), LIMITS, Cut(start_s, start_s + 5))
        assert_on_the_clock(piece, start_s * 16000, plain, signal[1], slack=600)


@pytest.mark.parametrize("container", ["m4a", "mkv", "webm"])
def test_time_stamps_that_jitter_cost_no_sample(
    record: Callable[..., Recording], ffmpeg: Ffmpeg, tmp_path: Path, container: str
) -> None:
    plain = record("opus" if container == "webm" else "aac", container).path
    path = tmp_path / f"a.{container}"
    jitter = "setts=ts='PTS+round((random(0)-0.5)*0.014/TB)'"
    ffmpeg("-i", plain, "-c", "copy", "-bsf:a", jitter, path)
    # What the first stamp is off by, all is.
    whole, shaken = decode(str(plain), LIMITS), decode(str(path), LIMITS)
    assert abs(len(shaken) - len(whole)) < 16 * MS
    assert np.count_nonzero(shaken == 0) < np.count_nonzero(whole == 0) + 16 * MS


@pytest.mark.parametrize("second", [("-ac", "2"), ("-ar", "32000")])
def test_a_stream_whose_channels_or_rate_change_loses_nothing_in_silence(
    signal: tuple[Path, np.ndarray], ffmpeg: Ffmpeg, tmp_path: Path, second: tuple[str, ...]
) -> None:
    for name, more in (("one", ()), ("two", second)):
        ffmpeg("-i", signal[0], "-t", 10, *more, "-c:a", "aac", tmp_path / f"{name}.aac")
    parts = [(tmp_path / f"{name}.aac").read_bytes() for name in ("one", "two")]
    (tmp_path / "joined.aac").write_bytes(b"".join(parts))
    try:
        joined = decode(str(tmp_path / "joined.aac"), LIMITS)
    except BadAudio:
        return
    assert len(joined) == pytest.approx(20 * 16000, rel=0.02)


def test_a_hole_of_hours_refuses_the_whole_and_no_piece_beside_it(
    record: Callable[..., Recording], ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    stretch = "setts=ts='if(gt(PTS*TB,5),PTS+40000/TB,PTS)'"
    path = tmp_path / "a.mkv"
    ffmpeg("-i", record("opus", "mkv").path, "-c", "copy", "-bsf:a", stretch, path)
    with pytest.raises(BadAudio, match="timestamp delta of 4"):
        decode(str(path), LIMITS)
    plain = decode(str(record("opus", "mkv").path), LIMITS)
    for start_s, shift_s in ((0.5, 0), (40_010, 40_000), (40_020.5, 40_000)):
        piece = decode(str(path), LIMITS, Cut(start_s, start_s + 2))
        wanted = plain[round((start_s - shift_s) * 16000) :][: 2 * 16000]
        assert np.corrcoef(piece, wanted)[0, 1] > 0.99


@pytest.mark.parametrize("again", ["another begins", "stamps stand still"])
def test_stamps_that_go_back_refuse_a_recording_whole_and_piece(
    record: Callable[..., Recording], ffmpeg: Ffmpeg, tmp_path: Path, again: str
) -> None:
    path = tmp_path / "a.webm"
    ffmpeg("-i", record("opus", "webm").path, "-c", "copy", "-live", 1, path)
    one = path.read_bytes()
    if again == "another begins":
        path.write_bytes(one + one[one.index(CLUSTER) :])
    else:
        stay = "setts=ts='min(PTS,20/TB)'"
        ffmpeg("-i", record("opus", "webm").path, "-c", "copy", "-bsf:a", stay, path)
    with pytest.raises(BadAudio, match="its time stamps go back or stand still"):
        decode(str(path), LIMITS)
    with pytest.raises(BadAudio, match="its time stamps go back or stand still"):
        duration_of(str(path), LIMITS, 15)


def test_what_comes_twice_for_some_seconds_is_dropped(
    record: Callable[..., Recording], signal: tuple[Path, np.ndarray], ffmpeg: Ffmpeg,
    tmp_path: Path,
) -> None:  # fmt: skip
    plain = record("opus", "webm")
    parts = []
    for name, span in (("one", ("-t", 25)), ("two", ("-ss", 20))):
        path = tmp_path / f"{name}.webm"
        ffmpeg(*span, "-copyts", "-i", plain.path, "-c", "copy", "-live", 1, path)
        parts.append(path.read_bytes())
    (tmp_path / "a.webm").write_bytes(parts[0] + parts[1][parts[1].index(CLUSTER) :])
    whole = decode(str(tmp_path / "a.webm"), LIMITS)
    assert len(whole) == pytest.approx(SECONDS * 16000, abs=0.1 * 16000)
    assert_on_the_clock(whole, 0, plain, signal[1])


@pytest.mark.parametrize("codec", ["opus", "vorbis"])
def test_a_hole_of_many_seconds_in_an_ogg_file_is_one(
    record: Callable[..., Recording], signal: tuple[Path, np.ndarray], codec: str
) -> None:
    recording = record(codec, "ogg", 0, 15)
    whole = decode(str(recording.path), LIMITS)
    assert_on_the_clock(whole[31 * 16000 :], 31 * 16000, recording, signal[1])
    assert duration_of(str(recording.path), LIMITS, 10).seconds * 16000 == len(whole)


@pytest.mark.parametrize("codec", ["opus", "flac"])
def test_a_piece_across_the_joint_of_two_ogg_files_is_complete(
    record: Callable[..., Recording], tmp_path: Path, codec: str
) -> None:
    one = record(codec, "ogg").path.read_bytes()
    (tmp_path / "two.ogg").write_bytes(one * 2)
    whole = decode(str(tmp_path / "two.ogg"), LIMITS)
    for start_s in (35, 62.5):
        piece = decode(str(tmp_path / "two.ogg"), LIMITS, Cut(start_s, start_s + 10))
        np.testing.assert_allclose(piece, whole[round(start_s * 16000) :][:160_000], rtol=0, atol=1)


def test_formats_without_time_stamps_count_samples() -> None:
    assert clock_of(b"RIFF\0\0\0\0WAVEfmt ") is COUNTED
    assert clock_of(b"ID3\4") is clock_of(b"") is COUNTED
    assert clock_of(b"\0\0\0\x20ftypisom") is MP4
    assert clock_of(b"OggS\0\2") is OGG

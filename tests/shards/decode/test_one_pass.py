"""Long recordings: how long they are, and their pieces from one pass."""

import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio_barlow_twins.shards.base.errors import ClipError
from audio_barlow_twins.shards.decode.cut import Cut, DecodeLimits
from audio_barlow_twins.shards.decode.errors import BadAudio
from audio_barlow_twins.shards.decode.sound import decode, decode_float, decode_pieces, duration_of

LIMITS = DecodeLimits()
SECONDS = 47.3
ENCODERS: dict[str, tuple[str, ...]] = {
    "wav": (),
    "flac": (),
    "adpcm.wav": ("-c:a", "adpcm_ima_wav"),
    "m4a": ("-c:a", "aac"),
    "frag.mp4": ("-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"),
    "alac.m4a": ("-c:a", "alac"),
    "aac": ("-c:a", "aac"),
    "mkv": ("-c:a", "aac"),
    "webm": ("-c:a", "libopus"),
    "live.webm": ("-c:a", "libopus", "-live", "1"),
    "vorbis.mka": ("-c:a", "libvorbis"),
    "opus": ("-c:a", "libopus"),
    "ogg": ("-c:a", "libvorbis"),
    "mp3": ("-c:a", "libmp3lame", "-q:a", "4"),
    "bare.mp3": ("-c:a", "libmp3lame", "-q:a", "4", "-write_xing", "0"),
    "ac3": ("-c:a", "ac3"),
    "wma": ("-c:a", "wmav2"),
    "wv": (),
    "aiff": (),
}
Ffmpeg = Callable[..., None]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory, ffmpeg: Ffmpeg) -> dict[str, Path]:
    """Encode noise, quiet at first, so that bit rates vary, in every format."""
    folder = tmp_path_factory.mktemp("recordings")
    noise = 0.2 * np.random.default_rng(0).standard_normal(round(SECONDS * 44100))
    noise[: 8 * 44100] *= 0.01
    soundfile.write(folder / "source.wav", noise, 44100)
    made = {ending: folder / f"a.{ending}" for ending in ENCODERS}
    for ending, arguments in ENCODERS.items():
        ffmpeg("-i", folder / "source.wav", *arguments, made[ending])
    return made


def tiles(seconds: float, piece_s: float = 10, hop_s: float = 10) -> list[Cut]:
    """Cut a length into pieces."""
    return [Cut(at, at + piece_s) for at in np.arange(0, seconds, hop_s).tolist()]


def alone(path: Path, cuts: Sequence[Cut]) -> list[np.ndarray | str]:
    """Decode each piece by itself; failures as their messages."""
    found: list[np.ndarray | str] = []
    for cut in cuts:
        try:
            found.append(decode(str(path), LIMITS, cut))
        except ClipError as error:
            found.append(str(error))
    return found


def in_one_pass(path: Path, cuts: Sequence[Cut]) -> list[np.ndarray | str]:
    """Decode all of them at once."""
    found = decode_pieces(str(path), LIMITS, cuts)
    return [each if isinstance(each, np.ndarray) else str(each) for each in found]


def assert_same(made: Sequence[np.ndarray | str], wanted: Sequence[np.ndarray | str]) -> None:
    """Compare pieces bit for bit, and failures by their messages."""
    assert len(made) == len(wanted)
    for one, other in zip(made, wanted, strict=True):
        assert type(one) is type(other)
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("ending", ENCODERS)
@pytest.mark.parametrize(("piece_s", "hop_s", "from_s"), [(10, 10, 0), (4, 3, 20), (2, 7.5, 0)])
def test_one_pass_gives_what_each_piece_gives_alone(
    recordings: dict[str, Path], ending: str, piece_s: float, hop_s: float, from_s: float
) -> None:
    cuts = [cut for cut in tiles(SECONDS, piece_s, hop_s) if cut.start_s >= from_s]
    assert_same(in_one_pass(recordings[ending], cuts), alone(recordings[ending], cuts))


@pytest.mark.parametrize("ending", ENCODERS)
def test_pieces_without_a_gap_are_the_whole_recording(
    recordings: dict[str, Path], ending: str
) -> None:
    whole = decode(str(recordings[ending]), LIMITS)
    pieces = in_one_pass(recordings[ending], tiles(len(whole) / 16000))
    joined = np.concatenate(pieces)
    assert len(joined) == len(whole)
    assert np.abs(joined.astype(int) - whole).max() <= 1


@pytest.mark.parametrize("ending", ENCODERS)
def test_a_duration_is_that_of_the_decoded_recording(
    recordings: dict[str, Path], ending: str
) -> None:
    n_samples = len(decode(str(recordings[ending]), LIMITS))
    exact_s = duration_of(str(recordings[ending]), LIMITS, exact_from_s=30).seconds
    assert round(exact_s * 16000) == n_samples
    about_s = duration_of(str(recordings[ending]), LIMITS, exact_from_s=1000).seconds
    assert about_s == pytest.approx(exact_s, abs=0.1)


def test_a_duration_may_be_longer_than_the_longest_clip(recordings: dict[str, Path]) -> None:
    limits = DecodeLimits(max_s=5)
    assert duration_of(str(recordings["mp3"]), limits, 30).seconds == pytest.approx(
        SECONDS, abs=0.1
    )


@pytest.mark.parametrize("ending", ["mp3", "wav", "ogg", "opus"])
def test_joined_files_are_as_long_as_what_is_decoded_of_them(
    recordings: dict[str, Path], tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_bytes(recordings[ending].read_bytes() * 2)
    try:
        n_samples = len(decode(str(path), LIMITS))
    except BadAudio:
        assert duration_of(str(path), LIMITS, 30).seconds > SECONDS
    else:
        assert round(duration_of(str(path), LIMITS, 30).seconds * 16000) == n_samples


@pytest.mark.parametrize("n", [2, 5])
def test_joined_mp3s_are_read_as_one(recordings: dict[str, Path], tmp_path: Path, n: int) -> None:
    one = recordings["mp3"].read_bytes()
    assert one.startswith(b"ID3")
    (tmp_path / "joined.mp3").write_bytes(one * n)
    path = str(tmp_path / "joined.mp3")
    single, joined = decode(str(recordings["mp3"]), LIMITS), decode(path, LIMITS)
    assert len(joined) == pytest.approx(n * len(single), abs=n * 0.1 * 16000)
    np.testing.assert_array_equal(np.rint(decode_float(path, 16000, LIMITS) * 32768), joined)
    for cut in (Cut(SECONDS - 4, SECONDS + 4), Cut(SECONDS + 20, SECONDS + 25)):
        piece = decode(path, LIMITS, cut)
        wanted = joined[round(cut.start_s * 16000) : round(cut.end_s * 16000)]
        assert np.abs(piece.astype(int) - wanted).max() <= 1


def test_a_tag_inside_a_damaged_mp3_does_not_conceal_the_damage(
    recordings: dict[str, Path], tmp_path: Path
) -> None:
    one = recordings["mp3"].read_bytes()
    middle = len(one) // 2
    (tmp_path / "a.mp3").write_bytes(one + one[:middle] + bytes(3000) + one[middle:])
    with pytest.raises(BadAudio, match="ffmpeg cannot decode it"):
        decode(str(tmp_path / "a.mp3"), LIMITS)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_header_without_a_length_is_no_proof(
    recordings: dict[str, Path], tmp_path: Path, size: int
) -> None:
    content = bytearray(recordings["wav"].read_bytes())
    begin = content.index(b"data") + 4
    content[4:8] = content[begin : begin + 4] = size.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    assert duration_of(str(tmp_path / "a.wav"), LIMITS, 30).seconds == pytest.approx(
        SECONDS, abs=1e-4
    )


@pytest.mark.parametrize("content", [b"", b"no sound at all" * 100])
def test_what_holds_no_sound_has_no_duration(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp3").write_bytes(content)
    with pytest.raises(BadAudio):
        duration_of(str(tmp_path / "a.mp3"), LIMITS, 30)


def test_damage_refuses_the_piece_that_it_lies_in(
    recordings: dict[str, Path], tmp_path: Path
) -> None:
    content = bytearray(recordings["flac"].read_bytes())
    content[len(content) // 2] ^= 0x10
    path = tmp_path / "a.flac"
    path.write_bytes(content)
    cuts = tiles(SECONDS)
    made = in_one_pass(path, cuts)
    assert [isinstance(piece, str) for piece in made] == [False, False, True, False, False]
    assert "CRC" in str(made[2])
    assert_same(made, alone(path, cuts))


def test_a_silent_piece_does_not_end_the_pass(
    tmp_path: Path, tone: Callable[..., np.ndarray]
) -> None:
    wave = tone(30)
    wave[5 * 16000 : 12 * 16000] = 0
    soundfile.write(tmp_path / "a.wav", wave, 16000)
    made = in_one_pass(tmp_path / "a.wav", tiles(30, 2, 2))
    assert [number for number, piece in enumerate(made) if isinstance(piece, str)] == [3, 4, 5]


def test_hours_are_cut_in_the_memory_of_a_piece(tmp_path: Path, ffmpeg: Ffmpeg) -> None:
    ffmpeg("-f", "lavfi", "-i", "anoisesrc=d=60:r=16000:a=0.3", tmp_path / "minute.mp3")
    ffmpeg("-stream_loop", 119, "-i", tmp_path / "minute.mp3", "-c", "copy", tmp_path / "a.mp3")
    seconds = duration_of(str(tmp_path / "a.mp3"), LIMITS, 30).seconds
    assert seconds == pytest.approx(7200, rel=0.01)
    tracemalloc.start()
    n_samples = sum(
        len(each) for each in decode_pieces(str(tmp_path / "a.mp3"), LIMITS, tiles(seconds))
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_samples == round(seconds * 16000)
    assert peak < 16e6

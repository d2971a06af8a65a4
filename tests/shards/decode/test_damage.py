"""Bad and damaged files: refused with a reason, or cut where the file is cut; never patched."""

import errno
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio_barlow_twins.ingest.errors import retry_after
from audio_barlow_twins.shards.decode.cut import Cut, DecodeLimits
from audio_barlow_twins.shards.decode.errors import BadAudio, DecoderStopped, Unreadable
from audio_barlow_twins.shards.decode.joined import inner_tags
from audio_barlow_twins.shards.decode.sound import decode, decode_pieces

LIMITS = DecodeLimits()
SECONDS = 6
Tone = Callable[..., np.ndarray]
BeforeFfmpeg = Callable[[str], Path]

ENCODERS: dict[str, tuple[str, ...]] = {
    "wav": (),
    "flac": (),
    "mp3": ("-c:a", "libmp3lame"),
    "opus": ("-c:a", "libopus"),
    "ogg": ("-c:a", "libvorbis"),
    "m4a": ("-c:a", "aac"),
    "mp4": ("-c:a", "aac", "-movflags", "+faststart"),
    "webm": ("-c:a", "libopus"),
    "aac": ("-c:a", "aac"),
}
CHECKED = ("flac", "opus", "ogg")
"""Formats with a checksum of their content."""


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, tone: Tone, ffmpeg: Callable[..., None]
) -> dict[str, bytes]:
    """Encode six seconds of sound, without a pause, in every format."""
    folder = tmp_path_factory.mktemp("whole")
    soundfile.write(folder / "source.wav", tone(SECONDS, 44100), 44100)
    for ending, arguments in ENCODERS.items():
        ffmpeg("-i", folder / "source.wav", *arguments, folder / f"a.{ending}")
    return {ending: (folder / f"a.{ending}").read_bytes() for ending in ENCODERS}


def longest_silence(pcm: np.ndarray) -> int:
    """Count the samples of the longest run of zeros."""
    edges = np.flatnonzero(np.diff(np.pad(pcm == 0, 1).astype(int)))
    return int(np.max(edges[1::2] - edges[::2], initial=0))


def decode_bytes(folder: Path, ending: str, content: bytes) -> np.ndarray:
    """Decode a file of this content."""
    path = folder / f"a.{ending}"
    path.write_bytes(content)
    return decode(str(path), LIMITS)


@pytest.mark.parametrize("ending", ENCODERS)
@pytest.mark.parametrize("share", [0.02, 0.35, 0.5001, 0.77, 0.97])
def test_a_truncated_file_is_refused_or_is_a_beginning_of_the_whole_one(
    tmp_path: Path, whole: dict[str, bytes], ending: str, share: float
) -> None:
    content = whole[ending]
    try:
        part = decode_bytes(tmp_path, ending, content[: int(share * len(content))])
    except BadAudio:
        return
    complete = decode_bytes(tmp_path, ending, content)
    assert len(part) <= (share + 0.03) * len(complete)
    assert longest_silence(part) < 160
    inside = len(part) - 2000  # the last block may lack what it shares with the next one
    difference = part[:inside].astype(int) - complete[:inside]
    assert np.abs(difference).max(initial=0) < 400


@pytest.mark.parametrize("ending", ["flac", "m4a", "mp4", "webm", "aac"])
def test_a_truncated_file_of_a_format_that_knows_its_length_is_refused(
    tmp_path: Path, whole: dict[str, bytes], ending: str
) -> None:
    with pytest.raises(BadAudio, match="ffmpeg cannot decode it: "):
        decode_bytes(tmp_path, ending, whole[ending][: len(whole[ending]) * 2 // 3])


def test_a_truncated_wav_gives_the_samples_that_are_there(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    header = whole["wav"].index(b"data") + 8
    part = decode_bytes(tmp_path, "wav", whole["wav"][: header + 2 * 44100])
    assert len(part) == 16000


@pytest.mark.parametrize("ending", [ending for ending in ENCODERS if ending != "wav"])
@pytest.mark.parametrize("damage", ["zeros", "noise", "gap"])
def test_a_hole_in_a_compressed_file_refuses_it(
    tmp_path: Path, whole: dict[str, bytes], ending: str, damage: str
) -> None:
    content = whole[ending]
    middle, size = len(content) // 2, 3000
    filler = {"zeros": bytes(size), "noise": np.random.default_rng(3).bytes(size), "gap": b""}
    with pytest.raises(BadAudio, match="ffmpeg cannot decode it: "):
        decode_bytes(tmp_path, ending, content[:middle] + filler[damage] + content[middle + size :])


@pytest.mark.parametrize("ending", CHECKED)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_one_wrong_bit_in_a_file_with_checksums_refuses_it(
    tmp_path: Path, whole: dict[str, bytes], ending: str, share: float
) -> None:
    content = bytearray(whole[ending])
    content[int(share * len(content))] ^= 0x10
    with pytest.raises(BadAudio, match="CRC"):
        decode_bytes(tmp_path, ending, bytes(content))


@pytest.mark.parametrize("ending", ["wav", "flac", "mp3", "ogg"])
@pytest.mark.parametrize(
    "content", [b"", b"hello\n" * 300, np.random.default_rng(4).bytes(30_000), b"\0" * 5000]
)
def test_a_file_that_is_no_audio_is_refused_whatever_its_name(
    tmp_path: Path, ending: str, content: bytes
) -> None:
    with pytest.raises(BadAudio, match="ffmpeg cannot decode it: "):
        decode_bytes(tmp_path, ending, content)


@pytest.mark.parametrize("head", [b"", b"RIFF", b"ID3\4"])
def test_a_file_larger_than_memory_is_refused_without_reading_it(
    tmp_path: Path, head: bytes
) -> None:
    path = tmp_path / "a.wav"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(1 << 40)
    assert inner_tags(str(path), head) == []


@pytest.mark.parametrize("ending", ["flac", "m4a", "mp4", "webm", "aac"])
def test_a_refusal_reads_the_same_every_time_and_everywhere(
    tmp_path: Path, whole: dict[str, bytes], ending: str
) -> None:
    reasons = set()
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        with pytest.raises(BadAudio) as caught:
            decode_bytes(folder, ending, whole[ending][: len(whole[ending]) // 2])
        reasons.add(str(caught.value))
    assert len(reasons) == 1
    assert "\n" not in reasons.pop()


def test_a_playlist_is_refused_though_the_file_that_it_names_could_be_decoded(
    tmp_path: Path, tone: Tone
) -> None:
    soundfile.write(tmp_path / "other.wav", tone(1), 16000)
    with pytest.raises(BadAudio, match="ffmpeg cannot decode it: "):
        decode_bytes(tmp_path, "wav", b"ffconcat version 1.0\nfile other.wav\n")


def test_a_file_that_is_gone_says_nothing_about_its_sound(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="No such file"):
        decode(str(tmp_path / "gone.wav"), LIMITS)


def test_a_link_to_itself_says_nothing_about_a_sound(tmp_path: Path) -> None:
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    with pytest.raises(Unreadable, match="symbolic links"):
        decode(str(tmp_path / "loop.wav"), LIMITS)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.wav"))
        for name in ("pipe.wav", "folder.wav", "socket.wav"):
            with pytest.raises(BadAudio, match="and no file"):
                decode(str(tmp_path / name), LIMITS)


def test_trouble_with_the_disk_stops_the_job(
    tmp_path: Path, tone: Tone, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1), 16000)

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("builtins.open", broken)
    with pytest.raises(OSError, match="Input/output error"):
        decode(str(tmp_path / "a.wav"), LIMITS)


def test_a_video_without_sound_is_refused(tmp_path: Path, ffmpeg: Callable[..., None]) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc=duration=1:size=64x64", tmp_path / "a.mp4")
    with pytest.raises(BadAudio, match="matches no streams"):
        decode(str(tmp_path / "a.mp4"), LIMITS)


@pytest.mark.parametrize(
    ("wave", "reason"),
    [
        (np.zeros(16000), "silent: every sample is zero"),
        (np.full(16000, 1e-6), "silent: every sample is zero"),
        (np.full(512, 0.1), "too short: 512 samples at 16 kHz, wanted 513"),
        (np.full(1, 0.1), "too short: 1 samples"),
        (np.zeros(0), "it holds no sample"),
        (np.array([0.1] * 999 + [np.nan]), "samples that are not numbers"),
        (np.array([0.1] * 999 + [np.inf]), "samples that are not numbers"),
        (
            np.full(32001, 0.1),
            "longer than 2 s; cut it into clips",
        ),
        (np.full(160_000, 0.1), "longer than 2 s"),
    ],
)
def test_sound_that_cannot_be_stored_is_refused_with_its_reason(
    tmp_path: Path, wave: np.ndarray, reason: str
) -> None:
    soundfile.write(tmp_path / "a.wav", wave, 16000, "FLOAT")
    with pytest.raises(BadAudio, match=reason):
        decode(str(tmp_path / "a.wav"), DecodeLimits(max_s=2))


@pytest.mark.parametrize("n_samples", [513, 32000])
def test_the_limits_themselves_are_allowed(tmp_path: Path, n_samples: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(n_samples, 0.1), 16000)
    assert len(decode(str(tmp_path / "a.wav"), DecodeLimits(max_s=2))) == n_samples


class TestStopped:
    """A decoder that is stopped says nothing about the sound."""

    def test_too_long(self, tmp_path: Path, tone: Tone) -> None:
        soundfile.write(tmp_path / "a.wav", tone(30), 16000)
        with pytest.raises(DecoderStopped, match=r"ffmpeg took longer than 0\.001 s"):
            decode(str(tmp_path / "a.wav"), DecodeLimits(timeout_s=0.001))

    @pytest.mark.parametrize("kills", [1, 2])
    def test_a_killed_ffmpeg_is_tried_again_once(
        self, tmp_path: Path, tone: Tone, before_ffmpeg: BeforeFfmpeg, kills: int
    ) -> None:
        soundfile.write(tmp_path / "a.wav", tone(1), 16000)
        log = before_ffmpeg(f'[ "$(wc -l < "$LOG")" -le {kills} ] && kill -9 $$')
        if kills == 1:
            assert len(decode(str(tmp_path / "a.wav"), LIMITS)) == 16000
        else:
            with pytest.raises(DecoderStopped, match="ffmpeg was ended by SIGKILL"):
                decode(str(tmp_path / "a.wav"), LIMITS)
        assert log.read_text() == "\n\n"

    def test_an_ffmpeg_that_hangs_is_stopped_once_for_all_pieces(
        self, tmp_path: Path, tone: Tone, before_ffmpeg: BeforeFfmpeg
    ) -> None:
        soundfile.write(tmp_path / "a.wav", tone(1), 16000)
        log = before_ffmpeg("exec sleep 60")
        cuts = [Cut(at / 100, at / 100 + 0.1) for at in range(50)]
        limits = DecodeLimits(timeout_s=0.2)
        found = list(decode_pieces(str(tmp_path / "a.wav"), limits, cuts))
        assert [type(each) for each in found] == [DecoderStopped] * 50
        assert log.read_text() == "\n" * 3  # the pass, and two tries of the first piece

    def test_a_pass_lasts_as_long_as_sound_comes(self, tmp_path: Path, tone: Tone) -> None:
        soundfile.write(tmp_path / "a.wav", tone(60), 16000)
        cuts = [Cut(at, at + 10) for at in range(0, 60, 10)]
        limits, found = DecodeLimits(timeout_s=0.5), []
        for piece in decode_pieces(str(tmp_path / "a.wav"), limits, cuts):
            found.append(piece)
            time.sleep(0.2)  # as one who works on it
        assert [len(piece) for piece in found if isinstance(piece, np.ndarray)] == [160_000] * 6

    def test_its_class_is_one_that_may_pass(self) -> None:
        assert retry_after(DecoderStopped.slug) is not None

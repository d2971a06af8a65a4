"""Files made to hurt: each ends in an answer, in little time and memory."""

import multiprocessing
import os
import resource
import stat
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio_barlow_twins.shards.decode.cut import Cut, DecodeLimits
from audio_barlow_twins.shards.decode.errors import BadAudio, DecoderStopped
from audio_barlow_twins.shards.decode.ffmpeg import ffmpeg_path
from audio_barlow_twins.shards.decode.sound import decode

LIMITS = DecodeLimits()
MOST_S = 20.0
"""Longest that one answer may take on a busy machine, s."""
MOST_FFMPEG_MB = 400
MOST_GROWTH_MB = 150
"""Twenty minutes of result are 38 MB."""


@dataclass(frozen=True)
class Answer:
    """What decode said, and what it took."""

    n_samples: int
    message: str
    seconds: float
    ffmpeg_mb: float
    growth_mb: float


def answer(path: str, limits: DecodeLimits, cut: Cut | None, pipe: Connection) -> None:
    """Decode in this process, which is new, and send the answer."""
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    n_samples, message = 0, ""
    try:
        n_samples = len(decode(path, limits, cut))
    except BadAudio as error:
        message = str(error)
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    pipe.send(Answer(n_samples, message, seconds, children / 1024, (after - before) / 1024))


@pytest.fixture(scope="module")
def ask() -> Callable[..., Answer]:
    """Return a function that decodes in a process of its own and checks what it took."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["audio_barlow_twins.shards.decode.ffmpeg"])

    def run(path: Path | str, limits: DecodeLimits = LIMITS, cut: Cut | None = None) -> Answer:
        ours, theirs = context.Pipe()
        process = context.Process(target=answer, args=(str(path), limits, cut, theirs))
        process.start()
        assert ours.poll(120), "no answer"
        got: Answer = ours.recv()
        process.join()
        assert got.seconds < MOST_S
        assert got.ffmpeg_mb < MOST_FFMPEG_MB
        assert got.growth_mb < MOST_GROWTH_MB
        return got

    return run


def crc(content: bytes, polynomial: int, bits: int) -> int:
    """Compute FLAC's checksums bit by bit."""
    value, top = 0, 1 << (bits - 1)
    for byte in content:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = (value << 1) ^ (polynomial if value & top else 0)
            value &= (1 << bits) - 1
    return value


def flac_bomb(frames: int, rate: int = 48000, channels: int = 8) -> bytes:
    """Write silence as FLAC by hand: 38 bytes for 65,535 samples of eight channels."""
    block = 65535
    numbers = (rate << 44) | ((channels - 1) << 41) | (15 << 36) | frames * block
    info = struct.pack(">HH", block, block) + bytes(6) + numbers.to_bytes(8, "big") + bytes(16)
    made = [b"fLaC\x80", len(info).to_bytes(3, "big"), info]
    for number in range(frames):
        header = b"\xff\xf8\x70" + bytes([(channels - 1) << 4 | 8])
        header += chr(number).encode() + struct.pack(">H", block - 1)
        frame = header + bytes([crc(header, 0x07, 8)]) + bytes(3 * channels)
        made += [frame, struct.pack(">H", crc(frame, 0x8005, 16))]
    return b"".join(made)


def wav(rate: int, channels: int, data: bytes, promised: int | None = None) -> bytes:
    """Write a WAV of 16-bit samples, with a wrong length if you like."""
    size = len(data) if promised is None else promised
    form = struct.pack("<HHIIHH", 1, channels, rate, 2 * rate * channels & 0xFFFFFFFF,
                       2 * channels, 16)  # fmt: skip
    riff = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", min(size + len(riff), 0xFFFFFFFF)) + riff + data


def noise(n_bytes: int) -> bytes:
    """Return sound as bytes."""
    return np.random.default_rng(0).bytes(n_bytes)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory, ffmpeg: Callable[..., None]) -> Path:
    """Make an opus file of 24 hours of which every moment is a tone."""
    folder = tmp_path_factory.mktemp("day")
    tone = ("-f", "lavfi", "-i", "sine=r=8000:d=120")
    few = ("-c:a", "libopus", "-b:a", "6k", "-frame_duration", "60")
    ffmpeg(*tone, *few, folder / "two.opus")
    ffmpeg("-stream_loop", "719", "-i", folder / "two.opus", "-c", "copy", folder / "day.opus")
    return folder / "day.opus"


def test_a_day_of_sound_is_refused_after_its_first_twenty_minutes(
    ask: Callable[..., Answer], day: Path
) -> None:
    assert ask(day).message.startswith("longer than 1200 s")


def test_ten_seconds_of_a_day_are_found(ask: Callable[..., Answer], day: Path) -> None:
    got = ask(day, cut=Cut(80_000, 80_010))
    assert (got.n_samples, got.message) == (160_000, "")


@pytest.mark.parametrize("cut", [None, Cut(5, 15), Cut(20_000, 20_010)])
def test_a_bomb_goes_off_slowly(
    tmp_path: Path, ask: Callable[..., Answer], cut: Cut | None
) -> None:
    content = flac_bomb(frames=16_000)  # 6 hours, 17 GB of PCM
    assert len(content) < 700_000
    (tmp_path / "bomb.flac").write_bytes(content)
    got = ask(tmp_path / "bomb.flac", cut=cut)
    assert got.message.startswith("silent: " if cut else "longer than 1200 s")


@pytest.mark.parametrize("channels", [3, 24, 200, 32767])
def test_many_channels_are_mixed_or_refused(
    tmp_path: Path, ask: Callable[..., Answer], channels: int
) -> None:
    (tmp_path / "a.wav").write_bytes(wav(16000, channels, noise(2 * channels * 1000)))
    got = ask(tmp_path / "a.wav")
    assert got.n_samples == 1000 or "cannot decode" in got.message


@pytest.mark.parametrize("rate", [1, 999, 768_000, 2**32 - 1])
def test_a_rate_that_is_no_sound_is_refused(
    tmp_path: Path, ask: Callable[..., Answer], rate: int
) -> None:
    (tmp_path / "a.wav").write_bytes(wav(rate, 1, noise(2_000_000)))
    for cut in (None, Cut(20, 30)):
        message = ask(tmp_path / "a.wav", cut=cut).message
        assert f"its rate is {rate} Hz" in message or "cannot decode" in message


@pytest.mark.parametrize("rate", [1000, 384_000])
def test_the_rates_at_the_limits_are_resampled(
    tmp_path: Path, ask: Callable[..., Answer], rate: int
) -> None:
    (tmp_path / "a.wav").write_bytes(wav(rate, 1, noise(2 * rate)))
    assert ask(tmp_path / "a.wav").n_samples == 16000


def test_a_wav_that_promises_four_gigabytes_has_what_it_has(
    tmp_path: Path, ask: Callable[..., Answer]
) -> None:
    (tmp_path / "a.wav").write_bytes(wav(16000, 1, noise(32_000), promised=0xFFFFFFF0))
    assert ask(tmp_path / "a.wav").n_samples == 16000


@pytest.mark.parametrize(
    "content",
    [
        struct.pack(">I4sQ", 1, b"moov", 2**62) + bytes(5000),
        struct.pack(">I4s", 0xFFFFFFF0, b"moov") + bytes(5000),
        struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + struct.pack(">I4sQ", 1, b"mdat", 2**63),
        b"".join(struct.pack(">I4s", 0x7FFFFFF0 - 8 * i, b"moov") for i in range(20_000)),
        struct.pack(">I4sI4sI4sI4sI4s", 400, b"moov", 392, b"trak", 384, b"mdia", 376, b"minf",
                    368, b"stbl") + struct.pack(">I4sIII", 360, b"stsz", 0, 0, 0x3FFFFFFF),
    ],
    ids=["64-bit box", "32-bit box", "mdat", "nested", "sizes"],
)  # fmt: skip
def test_boxes_of_impossible_size_are_refused(
    tmp_path: Path, ask: Callable[..., Answer], content: bytes
) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    assert ask(tmp_path / "a.mp4").message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("page.m4a", "<!DOCTYPE html><html><body>429 Too Many Requests</body></html>" * 50),
        ("list.wav", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{other}\n#EXT-X-ENDLIST\n"),
        ("list.m4a", "ffconcat version 1.0\nfile '{other}'\n"),
        ("list.mp3", "[playlist]\nFile1={other}\n"),
        ("image.opus", '<svg xmlns="http://www.w3.org/2000/svg"><image href="{other}"/></svg>'),
        ("talk.flac", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=audio 5004 RTP/AVP 0\n"),
    ],
)
def test_text_that_is_named_like_sound_is_refused(
    tmp_path: Path, ask: Callable[..., Answer], name: str, content: str
) -> None:
    soundfile.write(tmp_path / "other.wav", np.full(16000, 0.1), 16000)
    (tmp_path / name).write_text(content.format(other=tmp_path / "other.wav"))
    assert "cannot decode it" in ask(tmp_path / name).message


@pytest.mark.parametrize("name", ["-i", "-y -f null", "--", "a\nb.wav", "\n", "a\r\nfile.wav"])
def test_any_name_is_only_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).write_bytes(wav(16000, 1, noise(2 * 16000 * 30)))
    monkeypatch.chdir(tmp_path)
    assert len(decode(name, LIMITS)) == 480_000
    assert len(decode(name, LIMITS, Cut(15, 25))) == 160_000
    assert os.listdir(tmp_path) == [name]


@pytest.fixture
def slow_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Put a program in ffmpeg's place that does something instead."""

    def install(does: str) -> None:
        path = tmp_path / "bin" / "ffmpeg"
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\n{does}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(path.parent), prepend=os.pathsep)
        ffmpeg_path.cache_clear()

    yield install
    ffmpeg_path.cache_clear()


@pytest.mark.parametrize(
    "does",
    [
        "exec sleep 30",
        r"printf '.snd\0\0\0\030\0\0\0\0\0\0\0\006\0\0\076\200\0\0\0\001';"
        "while :; do printf 'aaaa'; sleep 0.05; done",
        "exec 1>&- 2>&- sleep 30",
    ],
    ids=["says nothing", "trickles", "closes its output and stays"],
)
def test_an_ffmpeg_that_does_not_end_is_killed(
    tmp_path: Path, slow_ffmpeg: Callable[[str], None], does: str
) -> None:
    (tmp_path / "a.wav").touch()
    slow_ffmpeg(does)
    begin = time.perf_counter()
    with pytest.raises(DecoderStopped, match=r"ffmpeg took longer than 0\.4 s"):
        decode(str(tmp_path / "a.wav"), DecodeLimits(timeout_s=0.4))
    assert time.perf_counter() - begin < 20
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_flood_of_complaints_ends_at_the_first(
    tmp_path: Path, slow_ffmpeg: Callable[[str], None]
) -> None:
    (tmp_path / "a.wav").touch()
    slow_ffmpeg("echo first >&2; while :; do echo more >&2; done")
    with pytest.raises(BadAudio, match=r"ffmpeg cannot decode it: first$"):
        decode(str(tmp_path / "a.wav"), LIMITS)

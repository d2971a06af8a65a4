"""Pieces of recordings: the very samples that decoding it all would give, without doing so."""

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio_barlow_twins.shards.decode.errors import BadAudio
from audio_barlow_twins.shards.decode.ffmpeg import Stream
from audio_barlow_twins.shards.decode.sound import Cut, DecodeLimits, decode

LIMITS = DecodeLimits()
SECONDS = 60
AAC = ("-c:a", "aac", "-b:a", "128k")
ENCODERS: dict[str, tuple[str, ...]] = {
    "wav": (),
    "flac": (),
    "m4a": AAC,
    "mp4": (*AAC, "-movflags", "+faststart"),
    "dash.m4a": (*AAC, "-movflags", "+dash+frag_keyframe+empty_moov", "-frag_duration", "5000000"),
    "aac": AAC,
    "mkv": AAC,
    "webm": ("-c:a", "libopus", "-b:a", "96k"),
    "opus": ("-c:a", "libopus", "-b:a", "96k"),
    "ogg": ("-c:a", "libvorbis", "-q:a", "4"),
    "vorbis.webm": ("-c:a", "libvorbis", "-q:a", "4"),
    "mp3": ("-c:a", "libmp3lame", "-q:a", "4"),
    "bare.mp3": ("-c:a", "libmp3lame", "-b:a", "128k", "-write_xing", "0", "-id3v2_version", "0"),
}
CUTS = [(0, 10), (0.37, 3), (9.99, 12.5), (10, 20), (33.333, 43.333), (49.5, 59.5)]
Ffmpeg = Callable[..., None]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory, ffmpeg: Ffmpeg) -> dict[str, Path]:
    """Encode a minute of noise, in which every place sounds different, in every format."""
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for rate in (44100, 48000):
        noise = np.convolve(rng.standard_normal(SECONDS * rate), np.ones(4) / 4, "same")
        soundfile.write(folder / f"{rate}.wav", 0.2 * noise, rate)
    made = {ending: folder / f"a.{ending}" for ending in ENCODERS}
    for ending, arguments in ENCODERS.items():
        source = folder / f"{48000 if 'webm' in ending else 44100}.wav"
        ffmpeg("-i", source, *arguments, made[ending])
    return made


@pytest.fixture(scope="module")
def whole(recordings: dict[str, Path]) -> dict[str, np.ndarray]:
    """Decode all of every recording."""
    return {ending: decode(str(path), LIMITS) for ending, path in recordings.items()}


def assert_is_piece(piece: np.ndarray, whole: np.ndarray, start_s: float, end_s: float) -> None:
    """Compare with a slice; where a resampler begins decides over a last bit."""
    expected = whole[round(start_s * 16000) : round(end_s * 16000)]
    assert len(piece) == len(expected)
    assert np.abs(piece.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("ending", ENCODERS)
@pytest.mark.parametrize(("start_s", "end_s"), CUTS)
def test_a_piece_is_that_of_the_whole_recording(
    recordings: dict[str, Path],
    whole: dict[str, np.ndarray],
    ending: str,
    start_s: float,
    end_s: float,
) -> None:
    piece = decode(str(recordings[ending]), LIMITS, Cut(start_s, end_s))
    assert len(piece) == round(end_s * 16000) - round(start_s * 16000)
    assert_is_piece(piece, whole[ending], start_s, end_s)


@pytest.mark.parametrize("ending", ENCODERS)
def test_a_piece_at_the_end_has_what_is_there(
    recordings: dict[str, Path], whole: dict[str, np.ndarray], ending: str
) -> None:
    assert_is_piece(decode(str(recordings[ending]), LIMITS, Cut(55, 65)), whole[ending], 55, 65)


@pytest.mark.parametrize("ending", ["m4a", "webm", "wav"])
@pytest.mark.parametrize("start_s", [61.0, 400.0])
def test_a_piece_after_the_end_is_refused_with_the_length(
    recordings: dict[str, Path], ending: str, start_s: float
) -> None:
    with pytest.raises(BadAudio, match=r"the recording ends at 60\.0\d s, before the clip begins"):
        decode(str(recordings[ending]), LIMITS, Cut(start_s, start_s + 10))


def test_a_piece_may_be_cut_from_a_recording_above_the_longest_length(
    recordings: dict[str, Path],
) -> None:
    assert len(decode(str(recordings["m4a"]), DecodeLimits(max_s=10), Cut(30, 40))) == 160_000
    with pytest.raises(BadAudio, match="longer than 10 s"):
        decode(str(recordings["m4a"]), DecodeLimits(max_s=10), Cut(30, 40.1))


@pytest.mark.parametrize(("start_s", "end_s"), [(-1, 9), (5, 5), (8, 2), (float("nan"), 3)])
def test_a_piece_without_length_is_refused(
    recordings: dict[str, Path], start_s: float, end_s: float
) -> None:
    with pytest.raises(BadAudio, match="there is no sound between"):
        decode(str(recordings["wav"]), LIMITS, Cut(start_s, end_s))


@pytest.mark.parametrize("ending", ["m4a", "mp3", "opus", "webm"])
def test_an_hour_is_not_decoded_for_ten_seconds(
    tmp_path: Path, recordings: dict[str, Path], ffmpeg: Ffmpeg, ending: str
) -> None:
    hour = tmp_path / f"hour.{ending}"
    ffmpeg("-stream_loop", "59", "-i", recordings[ending], "-c", "copy", hour)
    times = []
    for start_s in (20, 3500):
        begin = time.perf_counter()
        assert len(decode(str(hour), LIMITS, Cut(start_s, start_s + 10))) == 160_000
        times.append(time.perf_counter() - begin)
    assert times[1] < 5 * times[0] + 0.5


def test_damage_far_from_the_piece_does_not_refuse_it(
    tmp_path: Path, recordings: dict[str, Path], whole: dict[str, np.ndarray]
) -> None:
    content = bytearray(recordings["flac"].read_bytes())
    content[len(content) // 2] ^= 0x10
    (tmp_path / "a.flac").write_bytes(content)
    for start_s in (2, 15, 45):
        piece = decode(str(tmp_path / "a.flac"), LIMITS, Cut(start_s, start_s + 10))
        assert_is_piece(piece, whole["flac"], start_s, start_s + 10)
    with pytest.raises(BadAudio, match="CRC"):
        decode(str(tmp_path / "a.flac"), LIMITS, Cut(25, 35))


@pytest.mark.parametrize("seconds", [9.0, 10.0, 10.9])
def test_a_file_that_is_perhaps_the_piece_is_taken_whole_if_it_is_as_short(
    tmp_path: Path, tone: Callable[..., np.ndarray], seconds: float
) -> None:
    soundfile.write(tmp_path / "a.wav", tone(seconds), 16000)
    done = decode(str(tmp_path / "a.wav"), LIMITS, Cut(30, 40, perhaps_done=True))
    np.testing.assert_array_equal(done, decode(str(tmp_path / "a.wav"), LIMITS))


@pytest.mark.parametrize("start_s", [2, 30])
def test_a_file_that_is_perhaps_the_piece_is_cut_if_it_is_longer(
    recordings: dict[str, Path], whole: dict[str, np.ndarray], start_s: float
) -> None:
    cut = Cut(start_s, start_s + 10, perhaps_done=True)
    piece = decode(str(recordings["m4a"]), LIMITS, cut)
    assert_is_piece(piece, whole["m4a"], start_s, start_s + 10)


class Site:
    """A web server of a few files, with or without Range; it counts and may stop in the middle."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ranges, self.cut_after = folder, True, 1 << 40
        self.sent, self.pause_s, self.seen = 0, 0.0, list[dict[str, str]]()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Send a file, or the rest of it."""
        self.seen.append(dict(request.headers))
        path = self.folder / request.path.rpartition("/")[2]
        if not path.exists():
            return request.send_error(404)
        content, begin = path.read_bytes(), 0
        asked = request.headers.get("Range")
        if self.ranges and asked:
            begin = int(asked.removeprefix("bytes=").partition("-")[0])
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            request.send_response(200)
        request.send_header("Content-Length", str(len(content) - begin))
        request.end_headers()
        for at in range(begin, min(len(content), begin + self.cut_after), 2**14):
            try:
                request.wfile.write(content[at : min(at + 2**14, begin + self.cut_after)])
            except (BrokenPipeError, ConnectionResetError):
                return None
            self.sent += 2**14
            time.sleep(self.pause_s)
        return None


@pytest.fixture
def site(recordings: dict[str, Path]) -> Iterator[tuple[Site, str]]:
    """Serve the recordings on this machine."""
    pages = Site(recordings["m4a"].parent)

    class Handler(BaseHTTPRequestHandler):
        do_GET = pages.answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    Handler.do_GET = lambda self: pages.answer(self)  # type: ignore[method-assign]
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield pages, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("ending", ["m4a", "mp4", "dash.m4a", "webm", "opus", "mp3"])
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize(("start_s", "end_s"), [(3, 8), (40.5, 50.5), (52, 62)])
def test_a_piece_of_a_stream_is_that_of_the_whole_recording(
    site: tuple[Site, str],
    whole: dict[str, np.ndarray],
    ending: str,
    ranges: bool,
    start_s: float,
    end_s: float,
) -> None:
    pages, url = site
    pages.ranges = ranges
    stream = Stream(f"{url}/a.{ending}")
    try:
        piece = decode(stream, LIMITS, Cut(start_s, end_s))
    except BadAudio:
        # Without ranges, an index at the end of a file is out of reach: never a wrong piece.
        assert (ranges, ending) in {(False, "m4a"), (False, "webm"), (False, "opus")}
    else:
        assert_is_piece(piece, whole[ending], start_s, end_s)


def test_a_stream_is_read_where_the_piece_lies(
    site: tuple[Site, str], recordings: dict[str, Path], ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    pages, url = site
    pages.pause_s = 0.005  # or the system would take megabytes ahead
    hour = recordings["webm"].with_name("hour.webm")
    ffmpeg("-stream_loop", "59", "-i", recordings["webm"], "-c", "copy", hour)
    assert len(decode(Stream(f"{url}/hour.webm"), LIMITS, Cut(3000, 3010))) == 160_000
    assert pages.sent < hour.stat().st_size / 3


def test_headers_reach_the_server(site: tuple[Site, str]) -> None:
    pages, url = site
    headers = {"User-Agent": "abt test", "Cookie": "a=b"}
    decode(Stream(f"{url}/a.webm", headers), LIMITS, Cut(30, 31))
    assert pages.seen
    assert all(headers.items() <= seen.items() for seen in pages.seen)


def test_a_proxy_is_asked_instead_of_the_server(site: tuple[Site, str]) -> None:
    pages, url = site
    decode(Stream("http://media.invalid/a.webm", proxy=url), LIMITS, Cut(30, 31))
    assert {seen["Host"] for seen in pages.seen} == {"media.invalid"}


def test_a_stream_that_stops_is_refused(site: tuple[Site, str]) -> None:
    pages, url = site
    pages.cut_after = 2**16
    with pytest.raises(BadAudio):
        decode(Stream(f"{url}/a.webm"), LIMITS, Cut(20, 30))


@pytest.mark.parametrize(
    "stream",
    [
        Stream("{site}/gone.webm"),
        Stream("http://127.0.0.1:1/a.webm"),
        Stream("file:///etc/hostname"),
        Stream("{folder}/a.webm"),
        Stream("-i"),
        Stream("{site}/a.webm", {"A": "b\r\nC: d"}),
        Stream("{site}/a.webm", proxy="socks5://127.0.0.1:1"),
        Stream("{site}/list.m3u8"),
    ],
    ids=lambda stream: stream.url + str(stream.headers) + stream.proxy,
)
@pytest.mark.parametrize("start_s", [0, 30])
def test_a_stream_that_cannot_be_read_is_refused(
    site: tuple[Site, str], stream: Stream, start_s: float
) -> None:
    pages, url = site
    listed = f"#EXTM3U\n#EXTINF:60,\n{url}/a.mp3\n"
    (pages.folder / "list.m3u8").write_text(listed)
    full = stream.url.format(site=url, folder=pages.folder)
    with pytest.raises(BadAudio):
        decode(Stream(full, stream.headers, stream.proxy), LIMITS, Cut(start_s, start_s + 10))


def test_a_stream_without_a_cut_is_a_bug() -> None:
    with pytest.raises(ValueError, match="give a cut"):
        decode(Stream("http://127.0.0.1:1/a.webm"), LIMITS)

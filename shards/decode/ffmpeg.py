"""Decode any audio file to 16 kHz mono PCM16 with ffmpeg, which only this module runs."""

import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil, floor
from shutil import which
from typing import Any

import ffmpeg
import numpy as np
import soxr

from .errors import BadAudio, Unreadable
from .layout import Layout, SeekError, read_layout
from .pipe import output_of
from .track import EVERYTHING, SAMPLE_RATE, Track, read_au

FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,eac3,flac,flv,matroska,mov,mp3,ogg,rm,tta,"
    "w64,wav,wv"
)
"""ffmpeg's demuxers of files that hold sound themselves; a playlist could name other files."""
SEEK_FROM_S = 10.0
"""Pieces that begin earlier are decoded from the start of the file, which costs less."""
LARGEST_BLOCK = 256 * 2**20
"""Largest allocation of ffmpeg, bytes: enough for the index of a day of sound."""
STALL_S = 20
"""Longest silence of a server, s."""


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """Bounds on one file."""

    min_samples: int = 513
    """Shortest clip, samples at 16 kHz; below it log-mel cannot pad by reflection."""
    max_s: float = 1200.0
    """Longest clip, s."""
    timeout_s: float = 300.0
    """Longest run of ffmpeg, s."""


@dataclass(frozen=True)
class Cut:
    """The piece of a recording that is the clip."""

    start_s: float
    end_s: float
    perhaps_done: bool = False
    """The file may be the piece already; it is, if it is at most a second longer."""

    @property
    def samples(self) -> tuple[int, int]:
        """First sample and end (exclusive), at 16 kHz."""
        return round(self.start_s * SAMPLE_RATE), round(self.end_s * SAMPLE_RATE)


@dataclass(frozen=True)
class Stream:
    """A recording behind a URL (http or https), of which only a piece is read."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    proxy: str = ""


@lru_cache(maxsize=1)
def ffmpeg_path() -> str:
    """Return the path of ffmpeg: on the PATH, else in the imageio-ffmpeg wheel."""
    if found := which("ffmpeg"):
        return found
    from imageio_ffmpeg import get_ffmpeg_exe

    return get_ffmpeg_exe()


@lru_cache(maxsize=1)
def decoder_version() -> str:
    """Return the versions of ffmpeg and soxr, for the sidecar."""
    out = subprocess.run([ffmpeg_path(), "-version"], capture_output=True, text=True, check=True)
    return f"ffmpeg {out.stdout.split()[2]}, soxr {soxr.__version__}"


def decode(source: str | Stream, limits: DecodeLimits, cut: Cut | None = None) -> np.ndarray:
    """Decode a recording's first audio stream to exactly round(duration x 16000) samples.

    ffmpeg decodes and mixes down at the file's own rate; soxr (HQ) resamples, so the length is
    exact. Any error that ffmpeg reports refuses the file: a decoder would replace the damage with
    silence, and a demuxer would skip it.

    Args:
        source: path of a file, or a stream; a stream needs a cut.
        limits: bounds on the file.
        cut: the piece to return: samples round(start x 16000) to round(end x 16000) of the whole
            decoded recording; fewer if the recording ends earlier.

    Returns:
        int16 [samples] at 16 kHz.

    Raises:
        Unreadable: the file is missing or may not be read; other disk errors are not the clip's
            fault and stop the job.
        BadAudio: there is no sound that can be stored, or the stream cannot be read in pieces.
    """
    if isinstance(source, str):
        _require_readable(source)
    elif cut is None:
        raise ValueError("a stream is read in pieces; give a cut")
    pcm = _whole(source, limits) if cut is None else _piece(source, limits, cut)
    if len(pcm) < limits.min_samples:
        raise BadAudio(f"too short: {len(pcm)} samples at 16 kHz, wanted {limits.min_samples}")
    if not pcm.any():
        raise BadAudio("silent: every sample is zero")
    return pcm


def _require_readable(path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except (FileNotFoundError, PermissionError) as error:
        raise Unreadable(f"cannot be opened: {error.strerror}") from error


def _whole(source: str | Stream, limits: DecodeLimits) -> np.ndarray:
    command = _command(source)
    track = _listen(command, limits, until=lambda track: track.seconds > limits.max_s)
    if not track.ended:
        raise _too_long(limits)
    return track.pcm()


def _too_long(limits: DecodeLimits) -> BadAudio:
    return BadAudio(
        f"longer than {limits.max_s:g} s; cut it into clips, or ingest anew with a larger --max-s"
    )


def _piece(source: str | Stream, limits: DecodeLimits, cut: Cut) -> np.ndarray:
    length_s = cut.end_s - cut.start_s
    if not 0 <= cut.start_s < cut.end_s:
        raise BadAudio(f"there is no sound between {cut.start_s:g} s and {cut.end_s:g} s")
    if length_s > limits.max_s:
        raise _too_long(limits)
    if cut.perhaps_done and isinstance(source, str):
        track = _listen(_command(source), limits, until=lambda track: track.seconds > length_s + 1)
        if track.ended:
            return track.pcm()
    if cut.start_s >= SEEK_FROM_S:
        try:
            return _sought(source, limits, cut).pcm()
        except SeekError as error:
            if isinstance(source, Stream):
                raise BadAudio(f"the piece cannot be reached: {error}") from error
    return _listen(_command(source), limits, cut, until=lambda track: track.full).pcm()


def _sought(source: str | Stream, limits: DecodeLimits, cut: Cut) -> Track:
    """Decode a piece after a seek to some time before it, so that the decoder has settled."""
    try:
        layout = _layout(source, limits)
        begin, end = layout.boundary(floor(cut.start_s) - 2), layout.boundary(ceil(cut.end_s) + 1)
        track = _reach(source, limits, cut, layout, begin, end)
        if track.position < end:
            # Either the recording ends here, or the seek went too far and the start is missing.
            end = layout.boundary(floor(cut.start_s) - 1)
            if _reach(source, limits, cut, layout, begin, end).position < end:
                raise SeekError("no sound was found after it")
    except BadAudio as error:  # a seek can land where a decoder must complain
        raise SeekError(str(error)) from error
    return track


def _reach(
    source: str | Stream, limits: DecodeLimits, cut: Cut, layout: Layout, begin: int, end: int
) -> Track:
    """Seek, then decode from sample `begin` to `end`, counted at the native rate."""
    seek = {"ss": begin / layout.rate - 0.5, "noaccurate_seek": None}
    command = _command(source, seek, layout.only(begin, end))
    track = _listen(command, limits, cut, position=begin)
    if track.rate != layout.rate:
        raise SeekError(f"its rate changes from {layout.rate} to {track.rate} Hz")
    return track


def _layout(source: str | Stream, limits: DecodeLimits) -> Layout:
    options = {"c:a:0": "copy", "c:a:1": "pcm_s16le", "f": "framecrc", "copyts": None}
    command = _compile(source, {"t": 1}, options, maps=2)
    with closing(output_of(command, limits.timeout_s)) as blocks:
        return read_layout(b"".join(blocks).decode())


def _listen(
    command: list[str],
    limits: DecodeLimits,
    cut: Cut | None = None,
    position: int = 0,
    until: Callable[[Track], bool] = lambda track: False,
) -> Track:
    """Run ffmpeg to the end of its output, or until `until` holds."""
    with closing(output_of(command, limits.timeout_s)) as blocks:
        rate, samples = read_au(blocks)
        track = Track(rate, *(cut.samples if cut else EVERYTHING), position)
        for block in samples:
            track.add(block)
            if until(track):
                return track
    track.end()
    return track


def _command(source: str | Stream, seek: dict[str, Any] | None = None, only: str = "") -> list[str]:
    # The weights of a mix must add up to 1, else stereo is 3 dB too loud and clips. Few large
    # frames pass between ffmpeg's threads faster than many small ones.
    chain = [only, "aresample=rematrix_maxval=1", "asetnsamples=n=16384:p=0"]
    options = {"ac": 1, "f": "au", "c:a": "pcm_f32be", "af": ",".join(filter(None, chain))}
    return _compile(source, seek or {}, options | ({"copyts": None} if seek else {}))


def _compile(
    source: str | Stream, before: dict[str, Any], after: dict[str, Any], maps: int = 1
) -> list[str]:
    """Return a command line; `maps` is how often the sound goes into the output."""
    # `file:` keeps ffmpeg from interpreting a colon or a leading dash in a name.
    name, access = f"file:{source}", {"protocol_whitelist": "file"}
    if isinstance(source, Stream):
        name, access = source.url, _web_access(source)
    audio = ffmpeg.input(
        "SOURCE", format_whitelist=FORMATS, err_detect="crccheck", threads=1, **access, **before
    )["a:0"]
    command = (
        ffmpeg.output(*[audio] * maps, "pipe:1", **after)
        # Not -xerror: it refuses a WAV without a length in its header, as pipes write it.
        .global_args("-nostdin", "-v", "error", "-filter_threads", "1")
        .global_args("-max_alloc", str(LARGEST_BLOCK))
        .compile(cmd=ffmpeg_path())
    )
    # Inserted here, because ffmpeg-python cannot take a name that is not valid UTF-8.
    command[command.index("SOURCE")] = name
    return command


def _web_access(stream: Stream) -> dict[str, Any]:
    headers = "".join(f"{name}: {value}\r\n" for name, value in stream.headers.items())
    if not stream.url.startswith(("http://", "https://")):
        raise BadAudio("only http and https can be read in pieces")
    if headers.count("\n") != len(stream.headers) or headers.count("\r") != len(stream.headers):
        raise BadAudio("a header of the request holds a line break")
    if stream.proxy and not stream.proxy.startswith("http://"):
        raise BadAudio("ffmpeg knows HTTP proxies only")
    options = {"protocol_whitelist": "http,https,tcp,tls,httpproxy", "headers": headers}
    given = {name: value for name, value in options.items() if value}
    proxy = {"http_proxy": stream.proxy} if stream.proxy else {}
    return given | proxy | {"rw_timeout": STALL_S * 1_000_000}

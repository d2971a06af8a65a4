"""Any audio file to 16 kHz mono PCM16, with ffmpeg; the one module that runs it."""

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
"""ffmpeg's demuxers of files that hold sound themselves; a playlist could name any other file."""
SEEK_FROM_S = 10.0
"""A piece that begins earlier is reached by decoding from the start, which costs less."""
LARGEST_BLOCK = 256 * 2**20
"""Most that ffmpeg may allocate at a time, bytes; the index of a day of sound needs 200 MB."""
STALL_S = 20
"""Longest pause of a server, s."""


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """What one file may cost."""

    min_samples: int = 513
    """Shortest clip, samples at 16 kHz; below it log-mel cannot pad by reflection."""
    max_s: float = 1200.0
    """Longest clip, s."""
    timeout_s: float = 300.0
    """Longest time that ffmpeg may take, s."""


@dataclass(frozen=True)
class Cut:
    """The piece of a recording that is the clip."""

    start_s: float
    end_s: float
    perhaps_done: bool = False
    """A file no longer than the piece and a second is the piece already, and is taken whole."""

    @property
    def samples(self) -> tuple[int, int]:
        """First sample, and the one after the last, at 16 kHz."""
        return round(self.start_s * SAMPLE_RATE), round(self.end_s * SAMPLE_RATE)


@dataclass(frozen=True)
class Stream:
    """A recording behind a URL (http or https), of which a piece is read where it lies."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    proxy: str = ""
    """URL of an HTTP proxy, "" for none."""


@lru_cache(maxsize=1)
def ffmpeg_path() -> str:
    """Find ffmpeg: the one on the PATH, else the one of the imageio-ffmpeg wheel."""
    if found := which("ffmpeg"):
        return found
    from imageio_ffmpeg import get_ffmpeg_exe

    return get_ffmpeg_exe()


@lru_cache(maxsize=1)
def decoder_version() -> str:
    """Name the tools that make the samples, for the sidecar."""
    out = subprocess.run([ffmpeg_path(), "-version"], capture_output=True, text=True, check=True)
    return f"ffmpeg {out.stdout.split()[2]}, soxr {soxr.__version__}"


def decode(source: str | Stream, limits: DecodeLimits, cut: Cut | None = None) -> np.ndarray:
    """Decode a recording's first audio stream to exactly round(duration x 16000) samples.

    ffmpeg decodes and mixes down at the file's own rate; soxr (HQ) resamples, so that the length
    is exact. Whatever ffmpeg calls an error refuses the file: a decoder would conceal it with
    silence, and a container would leave the damaged part out.

    Args:
        source: path of a file, or a stream; a stream needs a cut.
        limits: what it may cost.
        cut: the piece to take: samples round(start x 16000) to round(end x 16000) of what the
            whole recording decodes to; fewer if the recording ends earlier.

    Returns:
        int16 [samples] at 16 kHz.

    Raises:
        Unreadable: the file is gone, or may not be read; any other trouble with the disk is not
            the clip's fault and stops the job.
        BadAudio: there is no sound in it that could be stored, or the stream cannot be read so.
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
        raise BadAudio(f"no sound lies between {cut.start_s:g} s and {cut.end_s:g} s")
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
    """Seek to some time before the piece, so that the decoder is warm when it begins.

    Raises:
        SeekError: it cannot be told which samples these would be, or something is wrong with them;
            a seek can land where a decoder must complain.
    """
    try:
        layout = _layout(source, limits)
        begin, end = layout.boundary(floor(cut.start_s) - 2), layout.boundary(ceil(cut.end_s) + 1)
        track = _reach(source, limits, cut, layout, begin, end)
        if track.position < end:
            # Either the recording ends here, or the seek went too far, and the begin is missing.
            end = layout.boundary(floor(cut.start_s) - 1)
            if _reach(source, limits, cut, layout, begin, end).position < end:
                raise SeekError("nothing was found there")
    except BadAudio as error:
        raise SeekError(str(error)) from error
    return track


def _reach(
    source: str | Stream, limits: DecodeLimits, cut: Cut, layout: Layout, begin: int, end: int
) -> Track:
    """Seek and decode from one boundary to another, native samples."""
    seek = {"ss": begin / layout.rate - 0.5, "noaccurate_seek": None}
    command = _command(source, seek, layout.only(begin, end))
    track = _listen(command, limits, cut, position=begin)
    if track.rate != layout.rate:
        raise SeekError(f"its rate changes from {layout.rate} to {track.rate} Hz")
    return track


def _layout(source: str | Stream, limits: DecodeLimits) -> Layout:
    """Look at packets and frames of the first second."""
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
    """Run ffmpeg to the end of its output, or until enough has been heard."""
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
    """Write the command that decodes and mixes down at the file's own rate."""
    # Weights of a mix add up to 1; without this stereo is 3 dB too loud, and clipped. Few large
    # frames pass between ffmpeg's threads faster than many small ones.
    chain = [only, "aresample=rematrix_maxval=1", "asetnsamples=n=16384:p=0"]
    options = {"ac": 1, "f": "au", "c:a": "pcm_f32be", "af": ",".join(filter(None, chain))}
    return _compile(source, seek or {}, options | ({"copyts": None} if seek else {}))


def _compile(
    source: str | Stream, before: dict[str, Any], after: dict[str, Any], maps: int = 1
) -> list[str]:
    """Write a command: options of the input, those of the output, how often sound goes into it."""
    # `file:` keeps a colon or a leading dash in a name from meaning something to ffmpeg.
    name, access = f"file:{source}", {"protocol_whitelist": "file"}
    if isinstance(source, Stream):
        name, access = source.url, _web_access(source)
    audio = ffmpeg.input(
        "SOURCE", format_whitelist=FORMATS, err_detect="crccheck", threads=1, **access, **before
    )["a:0"]
    command = (
        ffmpeg.output(*[audio] * maps, "pipe:1", **after)
        # Not -xerror: it refuses a WAV whose header does not know its length, as pipes leave it.
        .global_args("-nostdin", "-v", "error", "-filter_threads", "1")
        .global_args("-max_alloc", str(LARGEST_BLOCK))
        .compile(cmd=ffmpeg_path())
    )
    # Put in here, because ffmpeg-python cannot take a name that is not valid UTF-8.
    command[command.index("SOURCE")] = name
    return command


def _web_access(stream: Stream) -> dict[str, Any]:
    """Write the options of an input behind a URL; it can lead to the web only."""
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

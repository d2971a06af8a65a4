"""Command lines of ffmpeg, which only this module knows."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from shutil import which
from typing import Any

import ffmpeg
import soxr

from .clock import COUNTED, Clock
from .errors import BadAudio

FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,eac3,flac,flv,g722,gsm,matroska,mov,mp3,ogg,"
    "rm,tta,w64,wav,wv"
)
"""ffmpeg's demuxers of files that hold sound themselves; a playlist could name other files."""
LARGEST_BLOCK = 256 * 2**20
"""Largest allocation of ffmpeg, bytes: enough for the index of a day of sound."""
STALL_S = 20
"""Longest silence of a server, s."""
LONGEST_OVERLAP_S = 10.0
"""If more sound than this, s, comes at times that have passed, stamps do not tell where it lies."""
LONGEST_HOLE_S = 10**9
"""Longest hole that stays one, s; by itself, ffmpeg closes those of Ogg from 10 s."""
_LEVELS = {"fatal": 8, "error": 16}
_NUMBER = re.compile(r"\d+\.\d+")
_LISTING = {"f": "framecrc", "flush_packets": 1}
"""ffmpeg's table of packets: time stamps, sizes and checksums as text."""


@dataclass(frozen=True)
class Stream:
    """A recording behind a URL (http or https), of which only a piece is read."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    proxy: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """Where to read in a recording, and how to tell which samples come."""

    seek_s: int
    """Time from which to read, s."""
    first: int
    """Time stamp of the first sample to deliver; a relative clock counts from `seek_s`."""
    n_samples: int
    """How many to deliver at most."""
    snap: str
    """Filter that undoes the rounding of time stamps, or ''."""
    listing: str
    """File that receives the first packet in ffmpeg's framecrc form."""


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


def from_start(source: str, clock: Clock, mix: bool) -> list[str]:
    """Return the command that decodes a file from its beginning to a float AU at its own rate.

    Args:
        source: its path.
        clock: how its container keeps time.
        mix: mix the channels to mono; else, they all come.
    """
    # Where samples count, a stream whose rate or channels change goes on where it is.
    if clock == COUNTED:
        return _compile(source, {}, [_samples(clock, mix, {})])
    return _compile(source, {}, [_samples(clock, mix, clock.options(), before=[_overlap()])])


def from_middle(source: str | Stream, clock: Clock, mix: bool, section: Section) -> list[str]:
    """Return the command that decodes a section to a float AU, exact in its first sample."""
    timing = clock.options(section.first, settled_s=0)
    end = f"atrim=end_sample={section.n_samples}"
    seek: dict[str, Any] = {"ss": section.seek_s, "noaccurate_seek": None}
    if clock.absolute:
        seek["seek_timestamp"] = 1
    outputs = [
        _samples(clock, mix, timing, before=[_overlap(), section.snap], after=end),
        {"c:a": "copy", "frames:a": 1} | _LISTING,
    ]
    return _compile(source, seek if section.seek_s else {}, outputs, section.listing)


def first_second(source: str | Stream) -> list[str]:
    """Return the command that lists the first packets as stream 0, their frames as stream 1."""
    options = {"c:a:0": "copy", "c:a:1": "pcm_s16le", "copyts": None} | _LISTING
    return _compile(source, {"t": 1}, [options], maps=2)


def every_packet(source: str | Stream, clock: Clock) -> list[str]:
    """Return the command that lists all packets, on the recording's clock, without decoding.

    It is silent about damage, which must not end the list: there is sound behind it.
    """
    late = _complaint("eq(PTS,NOPTS)", "DURATION*TB", level="fatal")
    options = {"c:a": "copy", "bsf:a": f"setts=pts='{late}':dts=DTS"} | _LISTING
    if clock.absolute:
        options["copyts"] = None
    return _compile(source, {}, [options], tells="fatal")


def _overlap() -> str:
    """Return the filter that complains of too long an overlap."""
    return f"asetpts='{_complaint('isnan(PTS)', 'NB_SAMPLES/SR', level='error')}'"


def _complaint(unknown: str, length_s: str, level: str) -> str:
    """Return an expression that gives a time stamp as it is; it prints how long an overlap is.

    An overlap lasts until stamps pass the furthest one so far, which is variable 0; variable 1
    adds up the sound in it, s. The number stands alone in its line, as `clock_complaint` knows it.

    Args:
        unknown: condition that there is no time stamp.
        length_s: length of the frame or packet, s.
    """
    add_up = f"st(1,if(gt(PTS,ld(0)),0,ld(1)+{length_s}))"
    too_long = f"gt(ld(1),{LONGEST_OVERLAP_S})"
    return (
        f"if({unknown},0,{add_up};st(0,max(ld(0),PTS)));"
        f"if({too_long},print(ld(1),{_LEVELS[level]}),PTS)"
    )


def clock_complaint(line: str) -> str:
    """Return what is wrong if a line of errors is the number that `_complaint` prints, else ''."""
    if not _NUMBER.fullmatch(line):
        return ""
    return (
        f"its time stamps go back or stand still for more than {LONGEST_OVERLAP_S:g} s of sound, "
        "so that no place in it is known"
    )


def _samples(
    clock: Clock, mix: bool, timing: dict[str, float], before: Sequence[str] = (), after: str = ""
) -> dict[str, Any]:
    """Return the options of the output of samples, with filters before and after the timing."""
    # The weights of a mix must add up to 1, else stereo is 3 dB too loud and clips. Few large
    # frames pass between ffmpeg's threads faster than many small ones.
    given = {"rematrix_maxval": 1, **timing}
    resample = ":".join(f"{name}={value}" for name, value in given.items())
    chain = [*before, f"aresample={resample}", after, "asetnsamples=n=16384:p=0"]
    options: dict[str, Any] = {"f": "au", "c:a": "pcm_f32be", "af": ",".join(filter(None, chain))}
    if mix:
        options["ac"] = 1
    if clock.absolute:
        options["copyts"] = None
    return options


def _compile(
    source: str | Stream,
    before: dict[str, Any],
    outputs: list[dict[str, Any]],
    listing: str = "",
    maps: int = 1,
    tells: str = "error",
) -> list[str]:
    """Return a command line.

    Args:
        before: options of the input.
        outputs: options of the output to stdout, and of that to the file `listing`.
        maps: how often the sound goes into the first output.
        tells: the least serious messages that come.
    """
    # `file:` keeps ffmpeg from interpreting a colon or a leading dash in a name.
    name, access = f"file:{source}", {"protocol_whitelist": "file"}
    if isinstance(source, Stream):
        name, access = source.url, _web_access(source)
    audio = ffmpeg.input(
        "SOURCE", format_whitelist=FORMATS, err_detect="crccheck", threads=1, **access, **before
    )["a:0"]
    inputs, targets = [[audio] * maps, [audio]], ["pipe:1", f"file:{listing}"]
    command = (
        ffmpeg.merge_outputs(
            *(
                ffmpeg.output(*sound, target, **options)
                for sound, target, options in zip(inputs, targets, outputs, strict=False)
            )
        )
        # Not -xerror: it refuses a WAV without a length in its header, as pipes write it.
        .global_args("-nostdin", "-y", "-v", tells, "-filter_threads", "1")
        .global_args("-max_alloc", str(LARGEST_BLOCK))
        .global_args("-dts_delta_threshold", str(LONGEST_HOLE_S))
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

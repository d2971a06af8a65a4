"""Any audio file to 16 kHz mono PCM16, with ffmpeg; the one module that runs it."""

import re
import struct
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from shutil import which

import ffmpeg
import numpy as np
import soxr

from ingest.errors import BadAudio, Unreadable
from shards.logmel import PCM16_SCALE

SAMPLE_RATE = 16000
FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,eac3,flac,flv,matroska,mov,mp3,ogg,rm,tta,"
    "w64,wav,wv"
)
"""ffmpeg's demuxers of files that hold sound themselves; a playlist could name any other file."""
_AU_HEADER = struct.Struct(">4s5I")


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """What one file may cost."""

    min_samples: int = 513
    """Shortest clip, samples at 16 kHz; below it log-mel cannot pad by reflection."""
    max_s: float = 1200.0
    """Longest clip, s."""
    timeout_s: float = 300.0
    """Longest time that ffmpeg may take, s."""


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


def decode(path: str, limits: DecodeLimits) -> np.ndarray:
    """Decode a file's first audio stream to exactly round(duration x 16000) samples.

    ffmpeg decodes and mixes down at the file's own rate; soxr (HQ) resamples, so that the length
    is exact. Whatever ffmpeg calls an error refuses the file: a decoder would conceal it with
    silence, and a container would leave the damaged part out.

    Returns:
        int16 [samples] at 16 kHz.

    Raises:
        Unreadable: the file is gone, or may not be read; any other trouble with the disk is not
            the clip's fault and stops the job.
        BadAudio: there is no sound in the file that could be stored.
    """
    try:
        with open(path, "rb"):
            pass
    except (FileNotFoundError, PermissionError) as error:
        raise Unreadable(f"cannot be opened: {error.strerror}") from error
    samples, rate = _decode_native(path, limits)
    if not np.isfinite(samples).all():
        raise BadAudio("the file holds samples that are not numbers")
    if len(samples) > limits.max_s * rate:
        raise BadAudio(
            f"longer than {limits.max_s:g} s; cut it into clips, or ingest anew with a "
            "larger --max-s"
        )
    wanted = round(len(samples) * SAMPLE_RATE / rate)
    wave = _exactly(soxr.resample(samples, rate, SAMPLE_RATE), wanted)
    if wanted < limits.min_samples:
        raise BadAudio(f"too short: {wanted} samples at 16 kHz, wanted {limits.min_samples}")
    pcm = np.clip(np.rint(wave * PCM16_SCALE), -PCM16_SCALE, PCM16_SCALE - 1).astype(np.int16)
    if not pcm.any():
        raise BadAudio("silent: every sample is zero")
    return pcm


def _decode_native(path: str, limits: DecodeLimits) -> tuple[np.ndarray, int]:
    """Decode and mix down at the file's own rate: float32 [samples] and the rate, Hz."""
    command = (
        ffmpeg.input(
            "FILE", protocol_whitelist="file", format_whitelist=FORMATS, err_detect="crccheck",
        )
        .output(
            "pipe:1", map="0:a:0", ac=1, format="au", acodec="pcm_f32be", t=limits.max_s + 1,
            # Weights of a mix add up to 1; without this stereo is 3 dB too loud, and clipped.
            af="aresample=rematrix_maxval=1",
        )
        # Not -xerror: it refuses a WAV whose header does not know its length, as pipes leave it.
        .global_args("-nostdin", "-v", "error", "-threads", "1")
        .compile(cmd=ffmpeg_path())
    )  # fmt: skip
    # `file:` keeps a colon or a leading dash in a name from meaning something to ffmpeg; put in
    # here, because ffmpeg-python cannot take a name that is not valid UTF-8.
    command[command.index("FILE")] = f"file:{path}"
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=limits.timeout_s, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise BadAudio(f"ffmpeg took longer than {limits.timeout_s:g} s") from None
    if done.returncode or done.stderr.strip() or len(done.stdout) < _AU_HEADER.size:
        raise BadAudio(f"ffmpeg cannot decode it: {_reason(done.stderr)}")
    magic, begin, _, encoding, rate, channels = _AU_HEADER.unpack_from(done.stdout)
    if (magic, encoding, channels) != (b".snd", 6, 1):
        raise RuntimeError(f"ffmpeg wrote no mono float AU: {magic!r} {encoding} {channels}")
    samples = np.frombuffer(done.stdout, ">f4", offset=begin)
    if not len(samples):
        raise BadAudio("there is no sample in it")
    return samples.astype(np.float32), rate


def _reason(stderr: bytes) -> str:
    """Keep the first thing that ffmpeg said, without the memory addresses of its parts."""
    first = stderr.decode(errors="replace").strip().split("\n")[0]
    return re.sub(r"\[[^]]* @ 0x[0-9a-f]+\] ?", "", first).strip()[:300] or "it said nothing"


def _exactly(wave: np.ndarray, n_samples: int) -> np.ndarray:
    """Cut or pad by the odd sample that resamplers disagree about."""
    return np.pad(wave[:n_samples], (0, max(0, n_samples - len(wave))))

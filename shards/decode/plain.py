"""Plain WAV by libsndfile: the very samples that ffmpeg gives, without a process.

No FLAC: of two that were joined it reads the first alone, and says nothing.
"""

import os
from collections.abc import Iterator

from .errors import BadAudio
from .track import RATES, Au

SUBTYPES = {"PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"}
"""What libsndfile and ffmpeg turn into the same float32."""
BLOCK = 1 << 18
"""Samples of a channel to read at a time."""


def read_plain(path: str, head: bytes) -> Au | None:
    """Return the sound of a plain file of one or two channels; None if ffmpeg has to decide.

    It has on all other formats, and where libsndfile fails, or would read less or more than there
    is: a WAV that was cut, or whose header does not know its length.

    Args:
        path: a file.
        head: its first 16 bytes.
    """
    is_wav = (head[:4], head[8:12]) == (b"RIFF", b"WAVE")
    if not is_wav or int.from_bytes(head[4:8], "little") + 8 != os.path.getsize(path):
        return None
    try:
        import soundfile
    except ImportError:  # comes with the evaluation; without it, ffmpeg does the same, slower
        return None
    try:
        about = soundfile.info(os.fsencode(path))
    except soundfile.SoundFileError:
        return None
    if (
        about.format != "WAV"
        or about.subtype not in SUBTYPES
        or about.channels > 2
        or not about.frames
        or about.samplerate not in RATES
    ):
        return None

    def blocks() -> Iterator:
        try:
            with soundfile.SoundFile(os.fsencode(path)) as file:
                yield from file.blocks(BLOCK, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise BadAudio(f"libsndfile cannot decode it: {error}") from error

    return Au(about.samplerate, about.channels, blocks(), about.frames)

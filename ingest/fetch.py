"""Get the file to decode: the clip's own, or the part of an archive that holds it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

import fsspec

from ingest.clip import Clip
from ingest.errors import BadAudio

LARGEST_PART = 1 << 30
"""Longest audio file inside an archive, bytes."""


@contextmanager
def audio_file(clip: Clip) -> Iterator[str]:
    """Yield the path of a file with the clip's audio; a copy is gone when the block ends.

    Raises:
        BadAudio: the part of the archive is too large to be a clip.
        OSError: the archive cannot be read, which is not the clip's fault.
    """
    if clip.part is None:
        yield clip.path
        return
    offset, size = clip.part
    if size > LARGEST_PART:
        raise BadAudio(f"{size} bytes inside its archive, more than {LARGEST_PART}")
    with fsspec.open(clip.path, "rb") as archive:
        archive.seek(offset)
        content = archive.read(size)
    if len(content) != size:
        raise OSError(f"{clip.path} has changed: it ends inside {clip.origin}")
    # ffmpeg knows some formats by the file's ending, and seeks in most.
    with tempfile.NamedTemporaryFile(suffix=PurePosixPath(clip.origin).suffix) as copy:
        copy.write(content)
        copy.flush()
        yield copy.name

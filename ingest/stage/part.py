"""Yield the file to decode: the clip's own, or a copy from the archive or table that holds it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from audio_barlow_twins.shards.decode.errors import BadAudio, Unreadable

from ..sources.clip import Clip
from ..sources.remote.open import is_elsewhere, opened, read_part

LARGEST_PART = 1 << 30
"""Largest audio file inside an archive, bytes."""


@contextmanager
def audio_file(clip: Clip) -> Iterator[str]:
    """Yield the path of a file with the clip's audio; a copy is deleted when the block ends.

    Raises:
        BadAudio: the archive or table holds no audio for the clip, or far too much.
        Unreadable: an archive or table behind a URL is gone, closed or has changed.
        NetworkTrouble: it cannot be reached now.
        OSError: a file of this machine cannot be read, which is not the clip's fault.
    """
    if clip.part is None and clip.row is None:
        yield clip.path
        return
    content = _of_archive(clip, *clip.part) if clip.part else _of_table(clip)
    # ffmpeg recognises some formats by the file's ending, and seeks in most.
    with tempfile.NamedTemporaryFile(suffix=PurePosixPath(clip.origin).suffix) as copy:
        copy.write(content)
        copy.flush()
        yield copy.name


def _of_archive(clip: Clip, offset: int, size: int) -> bytes:
    if size > LARGEST_PART:
        raise BadAudio(f"{size} bytes inside its archive, more than {LARGEST_PART}")
    content = read_part(clip.path, offset, size, clip.archive_bytes)
    if len(content) != size:
        changed = Unreadable if is_elsewhere(clip.path) else OSError
        raise changed(f"{clip.path} has changed: it ends inside {clip.origin}")
    return content


def _of_table(clip: Clip) -> bytes:
    group, index = clip.row or (0, 0)
    content = _audio_of_group(clip.path, group, clip.archive_bytes)[index].as_py()
    if not content:
        raise BadAudio("the table holds no bytes for it")
    return content


@lru_cache(maxsize=1)
def _audio_of_group(url: str, group: int, listed: int | None) -> pa.ChunkedArray:
    """Read the audio of one row group; clips come in order, so the last one is cached."""
    with opened(url, listed) as file:
        table = pq.ParquetFile(file).read_row_group(group, columns=["audio.bytes"])
    return table.flatten()["audio.bytes"]

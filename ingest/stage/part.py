"""Yield the file to decode: the clip's own, or a copy from the archive or table that holds it."""

import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import PurePosixPath
from threading import Lock

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from audio_barlow_twins.shards.base.errors import first_line
from audio_barlow_twins.shards.decode.errors import BadAudio, Unreadable

from ..errors import NetworkTrouble
from ..sources.clip import Clip, RowOfTable
from ..sources.remote.open import is_elsewhere, opened, read_part

LARGEST_PART = 1 << 30
"""Largest audio file inside an archive, bytes."""
BUFFER = 1 << 20
"""Bytes of a table's column that are read at once."""
MOST_PASSED = 16
"""Rows that are kept for threads which ask a little later for what comes earlier."""


@contextmanager
def audio_file(clip: Clip) -> Iterator[str]:
    """Yield the path of a file with the clip's audio; a copy is deleted when the block ends.

    Raises:
        BadAudio: the archive or table holds no audio for the clip, or far too much.
        Unreadable: an archive or table behind a URL is gone, closed or has changed.
        NetworkTrouble: it cannot be reached now.
        OSError: a file of this machine cannot be read, which is not the clip's fault.
    """
    if clip.part is not None:
        content = _of_archive(clip, *clip.part)
    elif clip.row is not None:
        content = _of_table(clip, clip.row)
    else:
        yield clip.path
        return
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


def _of_table(clip: Clip, row: RowOfTable) -> bytes:
    content = _group(clip.path, row.group, row.audio, clip.archive_bytes).audio(row.number)
    if not content:
        raise BadAudio("the table holds no bytes for it")
    return content


@lru_cache(maxsize=2)
def _group(url: str, group: int, audio: tuple[str, ...], listed: int | None) -> "_Group":
    """Return a row group; clips come in order, and at its end threads are in two."""
    return _Group(url, group, audio, listed)


class _Group:
    """The audio of a row group, which may be larger than memory: read row by row, in order.

    Safe to use from several threads.
    """

    def __init__(self, url: str, group: int, audio: tuple[str, ...], listed: int | None) -> None:
        self._url, self._group, self._column, self._listed = url, group, audio, listed
        self._lock = Lock()
        self._rewind()

    def _rewind(self) -> None:
        self._rows, self._n_rows = self._read(), 0
        self._next, self._damage = 0, ""
        self._passed: dict[int, pa.Scalar] = {}

    def _read(self) -> Generator[pa.Scalar]:
        column, *fields = self._column
        with opened(self._url, self._listed) as file:
            # So a column is read piece by piece, and not as a whole.
            table = pq.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False)
            self._n_rows = table.metadata.row_group(self._group).num_rows
            for batch in table.iter_batches(
                batch_size=1, row_groups=[self._group], columns=[".".join(self._column)]
            ):
                audio = batch.column(column)
                yield from pc.struct_field(audio, fields) if fields else audio

    def audio(self, number: int) -> bytes | None:
        """Return the audio of a row; one that is far behind costs a second reading."""
        with self._lock:
            if number in self._passed:
                return self._passed.pop(number).as_py()
            if number < self._next:
                self._rewind()
            while (row := self._advance()) is not None and self._next <= number:
                self._passed[self._next - 1] = row
                if len(self._passed) > MOST_PASSED:
                    del self._passed[next(iter(self._passed))]
            if row is None:
                raise BadAudio(f"its table is damaged from row {self._next} on: {self._damage}")
            return row.as_py()

    def _advance(self) -> pa.Scalar | None:
        """Return the next row; None where the table is damaged, and for all rows behind."""
        if self._damage:
            return None
        try:
            row = next(self._rows)
        except (NetworkTrouble, Unreadable):
            self._rewind()
            raise
        except (pa.ArrowInvalid, OSError) as error:
            if isinstance(error, OSError) and not _is_damage(error):
                self._rewind()
                raise
            self._damage = first_line(error)
            return None
        except StopIteration:
            raise OSError(f"{self._url} has changed: its row group {self._group} ends") from None
        self._next += 1
        if self._next == self._n_rows:
            self._rows.close()  # its last page is needed no more
        return row


def _is_damage(error: OSError) -> bool:
    """Tell what Arrow says about a page that it cannot unpack from failures of disk and network."""
    return type(error) is OSError and error.errno is None

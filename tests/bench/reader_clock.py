"""Time ways to read crops, each in its own process, from warm and from cold files."""

import atexit
import ctypes
import math
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from mmap import PAGESIZE, PROT_READ, mmap
from multiprocessing import get_context, set_start_method
from multiprocessing.util import Finalize
from pathlib import Path
from types import ModuleType
from typing import Literal, TypeVar

import numpy as np
from torch import Tensor

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.shardset import ShardSet

Heat = Literal["warm", "cold", "warm, busy", "cold, busy"]
"""State of the files, and whether another thread keeps Python busy."""
Result = TypeVar("Result")
WARM_UP, DRAIN = 8, 8
"""Batches for each worker at the start and the end of a pass that are not timed: libraries fill a
buffer of a thousand clips before their first batches, and only empty it at the last ones."""
BATCH = 128
PIECE = 1 << 20
BUSY_SHARE, BUSY_S = 1 / 3, 0.001
"""How long, and how long at a time, another thread keeps Python busy, as a training loop does."""
LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to read crops."""

    name: str
    batches: Callable[[Path, int], Iterable[Tensor]]
    """Maps (folder, DataLoader workers) to batches of crops: an endless iterator, or an iterable
    for one pass over the clips at a time. A first batch without crops says that all is ready."""
    write: Callable[[ShardSet, Path], None]
    """Writes the clips of a set to a folder in this way's format."""
    form: str
    """Name of that folder, shared by ways that read the same files."""
    one_pass: Callable[[Path, int], Iterable[Tensor]] | None = None
    """The same over the clips once, for cold files; default: `batches`."""
    imports: Callable[[], ModuleType] | None = None
    """Imports the package to measure; raises ImportError if it is not installed."""
    workers: tuple[int, ...] = (0, 2)
    """Numbers of DataLoader workers to try."""
    busy: bool = False
    """Whether to time it also while another thread keeps Python busy."""


def in_own_process(run: Callable[..., Result], *args: object) -> Result:
    """Call a module's function in a fresh process, so that timings do not affect each other."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["reader_bench"])  # torch is loaded once
    with ProcessPoolExecutor(1, context, settle_in, max_tasks_per_child=1) as pool:
        return pool.submit(run, *args).result()


def settle_in() -> None:
    """Make a `multiprocessing` process start and end as one from the command line does."""
    set_start_method("fork", force=True)  # of a DataLoader's workers: what it is on Linux
    Finalize(None, tidy_up, exitpriority=0)


def tidy_up() -> None:
    """Join threads, then run exit functions: the order in which libraries expect it."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()


def missing(way: Way) -> str:
    """Return why a way cannot run here, or ''."""
    if way.imports:
        try:
            way.imports()
        except ImportError as error:
            return str(error)
    return ""


@contextmanager
def python_busy(busy: bool) -> Iterator[None]:
    """Keep Python busy in another thread, for a share of the time."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(BUSY_S * (1 / BUSY_SHARE - 1)):
            end = time.perf_counter() + BUSY_S
            while time.perf_counter() < end:
                pass

    thread = threading.Thread(target=work)
    if busy:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if busy:
            thread.join()


def time_warm(
    way: Way, folder: Path, workers: int, seconds: float, clips: int, busy: bool = False
) -> float:
    """Return crops/s without the start and the end of each pass."""
    heat(folder)
    loader = way.batches(folder, workers)
    most = math.inf if isinstance(loader, Generator) else clips - left_out(workers, WARM_UP)
    crops, elapsed = 0, 0.0
    with python_busy(busy):
        while elapsed < seconds:
            stream = started(loader, WARM_UP * max(1, workers))
            of_pass, now = timed(stream, seconds - elapsed, most)
            crops, elapsed = crops + of_pass, elapsed + now
            end_of(stream)
    return crops / elapsed


def time_cold(
    way: Way, folder: Path, workers: int, seconds: float, clips: int, busy: bool = False
) -> float:
    """Return crops/s of passes over files not in memory, after their first batches.

    Libraries keep files open or mapped, so theirs is one pass, and its end, which only empties
    buffers, is not timed.
    """
    crops, elapsed = 0, 0.0
    most = clips - left_out(workers, 0) if way.imports else clips
    while elapsed < seconds and (way.imports is None or not crops):
        cool(folder)
        stream = started((way.one_pass or way.batches)(folder, workers), 1)
        with python_busy(busy):
            of_pass, now = timed(stream, math.inf, most)
        crops, elapsed = crops + of_pass, elapsed + now
        end_of(stream)
    return crops / elapsed


def timed(stream: Iterator[Tensor], seconds: float, clips: float) -> tuple[int, float]:
    """Take batches for some time, at most `clips`; return how many crops, and the time."""
    begin, crops, now = time.perf_counter(), 0, 0.0
    for batch in stream:
        crops += len(batch)
        now = time.perf_counter() - begin
        if now >= seconds or crops + len(batch) > clips:
            break
    return crops, now


def left_out(workers: int, at_start: int) -> int:
    """Return how many clips of a pass are not timed."""
    return BATCH * (at_start + DRAIN) * max(1, workers)


def started(loader: Iterable[Tensor], skip: int) -> Iterator[Tensor]:
    """Start a pass and skip its first batches.

    Raises:
        UserError: the pass has fewer batches.
    """
    stream = iter(loader)
    if len(list(islice(stream, skip))) < skip:
        raise UserError(f"a pass must have more than {skip} batches to be timed; write more clips")
    return stream


def end_of(stream: Iterator[Tensor]) -> None:
    """Close a stream that can be: what it reads ahead would not be cold in the next pass."""
    if isinstance(stream, Generator):
        stream.close()


def heat(folder: Path) -> float:
    """Read every file of a folder in order into memory; return MB/s."""
    begin, size = time.perf_counter(), 0
    piece = bytearray(PIECE)
    for path in files_of(folder):
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(piece):
                size += count
    return size / 1e6 / (time.perf_counter() - begin)


def cool(folder: Path) -> None:
    """Drop every file of a folder from the page cache.

    Raises:
        UserError: a file stays there.
    """
    for path in files_of(folder):
        with path.open("rb", buffering=0) as file:
            os.fsync(file)  # only clean pages can be dropped
            for pause_s in (0, 0.01, 0.1, 1):  # a page in use stays
                time.sleep(pause_s)
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                if not in_memory(path):
                    break
            else:
                raise UserError(
                    f"{path} stays in memory, so it cannot be read cold; name a folder on a disk "
                    "with --folder, or leave cold files out with --no-cold"
                )


def in_memory(path: Path) -> float:
    """Return the share of a file's pages that are in the page cache."""
    if not path.stat().st_size:
        return 0.0
    with path.open("rb") as file, mmap(file.fileno(), 0, prot=PROT_READ) as mapped:
        data = np.frombuffer(mapped, np.uint8)
        pages = np.empty(-(-len(data) // PAGESIZE), np.uint8)
        begin, answer = (ctypes.c_void_p(array.ctypes.data) for array in (data, pages))
        if LIBC.mincore(begin, ctypes.c_size_t(len(data)), answer):
            raise OSError(ctypes.get_errno(), f"mincore: {path}")
        del data  # or the mapping cannot be closed
    return float((pages & 1).mean())


def files_of(folder: Path) -> list[Path]:
    """List all files below a folder by name."""
    return sorted(path for path in folder.rglob("*") if path.is_file())

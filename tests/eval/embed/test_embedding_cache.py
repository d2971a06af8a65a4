import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from audio_barlow_twins.eval.embed.cache import EmbeddingCache, Rows
from audio_barlow_twins.eval.tasks.task import Task, read_task
from audio_barlow_twins.shards.base.errors import UserError

SCENES = Rows(torch.arange(24.0).view(8, 3) / 7)
EVENTS = Rows(
    torch.arange(15.0).view(5, 3),
    (np.array([0.0, 50.0]), np.array([0.0, 33.3, 66.6])),
)


@pytest.fixture
def task(task_folder: Path) -> Task:
    return read_task(task_folder, 16000)


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "cache", "0123456789abcdef")


def assert_same(rows: Rows | None, wanted: Rows) -> None:
    assert rows is not None
    assert torch.equal(rows.embeddings, wanted.embeddings)
    assert len(rows.timestamps_ms) == len(wanted.timestamps_ms)
    for times, others in zip(rows.timestamps_ms, wanted.timestamps_ms, strict=True):
        np.testing.assert_array_equal(times, others)


@pytest.mark.parametrize(("rows", "n_clips"), [(SCENES, 8), (EVENTS, 2)])
def test_what_was_written_is_read(
    cache: EmbeddingCache, tmp_path: Path, rows: Rows, n_clips: int
) -> None:
    cache.write(tmp_path / "some" / "split.npy", rows)
    assert_same(cache.read(tmp_path / "some" / "split.npy", n_clips), rows)


def test_what_is_not_there_is_not_damaged(
    cache: EmbeddingCache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert cache.read(tmp_path / "split.npy", 8) is None
    assert not caplog.text


@given(
    embeddings=arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 4))),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
)
def test_every_bit_comes_back(
    embeddings: np.ndarray, lengths: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "split.npy"
    times = tuple(50.0 * np.arange(length) for length in lengths)
    cache = EmbeddingCache(file.parent, "")
    cache.write(file, Rows(torch.from_numpy(embeddings), times))
    rows = cache.read(file, len(lengths))
    assert rows is not None
    assert rows.embeddings.numpy().tobytes() == embeddings.tobytes()
    assert [len(some) for some in rows.timestamps_ms] == lengths


def test_numpy_reads_the_embeddings(cache: EmbeddingCache, tmp_path: Path) -> None:
    cache.write(tmp_path / "split.npy", EVENTS)
    np.testing.assert_array_equal(np.load(tmp_path / "split.npy"), EVENTS.embeddings)
    mapped = np.load(tmp_path / "split.npy", mmap_mode="r")
    np.testing.assert_array_equal(mapped, EVENTS.embeddings)


def test_what_is_read_is_mapped_and_writing_to_it_changes_no_file(
    cache: EmbeddingCache, tmp_path: Path
) -> None:
    file = tmp_path / "split.npy"
    cache.write(file, SCENES)
    rows = cache.read(file, 8)
    assert rows is not None
    assert str(file) in Path("/proc/self/maps").read_text()
    rows.embeddings.zero_()
    assert_same(cache.read(file, 8), SCENES)


def test_a_file_with_any_byte_changed_or_missing_is_not_used(
    cache: EmbeddingCache, tmp_path: Path
) -> None:
    file = tmp_path / "split.npy"
    cache.write(file, EVENTS)
    content = file.read_bytes()
    for place in range(len(content)):
        file.write_bytes(content[:place])
        assert cache.read(file, 2) is None
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        file.write_bytes(changed)
        assert cache.read(file, 2) is None


def test_a_damaged_file_is_named(
    cache: EmbeddingCache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "split.npy"
    cache.write(file, SCENES)
    os.truncate(file, 150)
    assert cache.read(file, 8) is None
    assert f"{file}: is damaged" in caplog.text


def resized(task: Task) -> Task:
    path = task.splits["fold00"][2].path
    path.write_bytes(path.read_bytes() + b"\0\0")
    return task


def touched(task: Task) -> Task:
    os.utime(task.splits["fold00"][2].path, ns=(0, 1))
    return task


def renamed(task: Task) -> Task:
    first, *others = task.splits["fold00"]
    path = first.path.rename(first.path.with_name("other.wav"))
    return replace(task, splits={**task.splits, "fold00": (replace(first, path=path), *others)})


def reordered(task: Task) -> Task:
    return replace(task, splits={**task.splits, "fold00": task.splits["fold00"][::-1]})


def of_events(task: Task) -> Task:
    return replace(task, metadata=replace(task.metadata, embedding_type="event"))


@pytest.mark.parametrize("change", [resized, touched, renamed, reordered, of_events])
def test_clips_that_are_not_the_same_are_another_file(
    cache: EmbeddingCache, task: Task, change: Callable[[Task], Task]
) -> None:
    before = cache.file(task, "fold00", 16000)
    touched_time = task.splits["fold00"][2].path.stat()
    after = cache.file(change(task), "fold00", 16000)
    assert after != before
    if change is resized:  # by its size alone
        path = task.splits["fold00"][2].path
        os.utime(path, ns=(touched_time.st_atime_ns, touched_time.st_mtime_ns))
        assert cache.file(task, "fold00", 16000) != before


def test_systems_rates_and_splits_have_files_of_their_own(
    cache: EmbeddingCache, task: Task
) -> None:
    other = EmbeddingCache(cache.folder, "fedcba9876543210")
    files = {
        cache.file(task, "fold00", 16000),
        cache.file(task, "fold01", 16000),
        cache.file(task, "fold00", 48000),
        other.file(task, "fold00", 16000),
    }
    assert len(files) == 4


def test_labels_have_no_part_in_it(cache: EmbeddingCache, task: Task) -> None:
    clips = tuple(replace(clip, labels=("kick",)) for clip in task.splits["fold00"])
    other = replace(task, splits={**task.splits, "fold00": clips})
    assert cache.file(other, "fold00", 16000) == cache.file(task, "fold00", 16000)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, task: Task) -> None:
    (tmp_path / "cache").write_text("a file")
    cache = EmbeddingCache(tmp_path / "cache", "")
    with pytest.raises(UserError, match="name another folder with --cache"):
        cache.write(cache.file(task, "fold00", 16000), SCENES)


WRITE = """
import sys
from pathlib import Path
import torch
from audio_barlow_twins.eval.embed.cache import EmbeddingCache, Rows
rows = Rows(torch.ones(12_000, 64))
while True:
    EmbeddingCache(Path("."), "").write(Path(sys.argv[1]), rows)
"""


# A file that grows beyond the limit ends the process in the middle of writing.
KILLED_WRITING = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
"""


@pytest.mark.parametrize("before", [None, EVENTS])
def test_a_kill_in_the_middle_of_a_file_leaves_what_was_there(
    cache: EmbeddingCache, tmp_path: Path, before: Rows | None, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "split.npy"
    if before:
        cache.write(file, before)
    command = [sys.executable, "-c", KILLED_WRITING + WRITE, str(file)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL)
    assert done.returncode == -signal.SIGXFSZ
    assert [path.stat().st_size for path in tmp_path.glob(".*.tmp")] == [2**20]
    if before:
        assert_same(cache.read(file, 2), before)
    assert (cache.read(file, 2) is None) == (before is None)
    cache.write(file, SCENES)
    assert_same(cache.read(file, 8), SCENES)
    assert not caplog.text


def test_scratch_files_of_killed_writers_go_in_time(cache: EmbeddingCache, tmp_path: Path) -> None:
    file = tmp_path / "split.npy"
    old, new = (file.with_name(f".split.npy.{name}.tmp") for name in ("old", "new"))
    for scratch in (old, new):
        scratch.touch()
    os.utime(old, (0, 0))
    cache.write(file, SCENES)
    assert {*tmp_path.glob(".*")} == {new}


def test_a_reader_beside_two_writers_sees_whole_files(tmp_path: Path) -> None:
    file, cache = tmp_path / "split.npy", EmbeddingCache(tmp_path, "")
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE, file], stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    try:
        while not file.exists():
            time.sleep(0.01)
        inodes: set[int] = set()
        while len(inodes) < 3:
            inodes.add(file.stat().st_ino)
            rows = cache.read(file, 1)
            assert rows is not None
            assert bool((rows.embeddings == 1).all())
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()

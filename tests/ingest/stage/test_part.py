"""Audio of tables, row by row: in any order, in bounded memory, by several threads."""

import random
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_barlow_twins.ingest.sources.clip import Clip, RowOfTable
from audio_barlow_twins.ingest.stage.part import audio_file
from audio_barlow_twins.shards.decode.errors import BadAudio

ROWS, FEW, BYTES, PAGE = 200, 40, 300_000, 4
AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def sound(number: int) -> bytes:
    """Return bytes that no other row holds and that do not compress to nothing."""
    return np.random.default_rng(number).integers(0, 4, BYTES, np.uint8).tobytes()


def write(path: Path, n: int = ROWS, **how: object) -> Path:
    """Write one row group, a few rows a page."""
    schema = pa.schema([("audio", AUDIO)])
    rows = [{"bytes": sound(number), "path": f"{number}.wav"} for number in range(n)]
    table = pa.table({"audio": pa.array(rows, AUDIO)}, schema=schema)
    options = {"write_batch_size": PAGE, "use_dictionary": False, **how}
    pq.write_table(table, path, row_group_size=n, **options)  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("group") / "t.parquet", FEW)


def audio(path: Path | str, number: int, group: int = 0) -> bytes:
    """Take the audio of one row as a worker does."""
    row = RowOfTable(group, number)
    clip = Clip(key="x", source="parquet", path=str(path), origin="t/0/0/x.wav", row=row)
    with audio_file(clip) as file:
        return Path(file).read_bytes()


def test_a_row_group_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet")
    before, held = pa.total_allocated_bytes(), []
    tracemalloc.start()  # what Arrow reads through a file of Python is Python's
    for number in range(0, ROWS, 10):
        assert audio(path, number) == sound(number)
        held.append(pa.total_allocated_bytes() - before)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0 < max(held) < 30 * BYTES
    assert most < 30 * BYTES


def test_of_a_row_group_that_was_read_nothing_stays_in_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", FEW, write_batch_size=FEW)  # all in one page
    before = pa.total_allocated_bytes()
    for number in range(FEW):
        audio(path, number)
    assert pa.total_allocated_bytes() - before < 4 * BYTES


@given(numbers=st.lists(st.integers(0, FEW - 1), min_size=1, max_size=6))
def test_rows_may_be_asked_for_in_any_order(numbers: list[int], table: Path) -> None:
    for number in numbers:
        assert audio(table, number) == sound(number)


def test_several_threads_get_the_rows_that_they_ask_for(table: Path) -> None:
    numbers = list(range(FEW))
    random.Random(0).shuffle(numbers)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: audio(table, number), numbers))
    assert found == [sound(number) for number in numbers]


def test_rows_asked_for_a_little_late_cost_no_second_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/late/t.parquet", write(tmp_path / "t.parquet", 30).read_bytes())
    opened = []
    real = memory.open
    monkeypatch.setattr(
        type(memory), "open", lambda self, *a, **k: opened.append(a) or real(*a, **k)
    )
    for number in (3, 1, 2, 0, 7, 5, 6, 4, 20, 19, 18):
        assert audio("memory://late/t.parquet", number) == sound(number)
    assert len(opened) == 1


def test_groups_are_read_one_beside_the_other(tmp_path: Path) -> None:
    rows = [{"bytes": sound(number), "path": None} for number in range(4)]
    pq.write_table(
        pa.table({"audio": pa.array(rows, AUDIO)}), tmp_path / "t.parquet", row_group_size=2
    )
    for number in (2, 1, 3, 0):
        assert audio(tmp_path / "t.parquet", number % 2, number // 2) == sound(number)


def test_a_row_without_bytes_says_so(tmp_path: Path) -> None:
    rows = [{"bytes": None, "path": "lost.wav"}, None, {"bytes": b"", "path": "empty.wav"}]
    pq.write_table(pa.table({"audio": pa.array(rows, AUDIO)}), tmp_path / "t.parquet")
    for number in range(3):
        with pytest.raises(BadAudio, match="the table holds no bytes for it"):
            audio(tmp_path / "t.parquet", number)


def test_a_damaged_page_fails_its_rows_and_those_behind_it_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", 40, compression="zstd")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 5000] = b"\0" * 5000
    path.write_bytes(content)
    outcomes = []
    for number in range(40):
        try:
            outcomes.append(audio(path, number) == sound(number))
        except BadAudio as error:
            outcomes.append(f"{error}".partition(":")[0])
    good = outcomes.count(True)
    assert 0 < good < 40
    assert outcomes == [True] * good + [f"its table is damaged from row {good} on"] * (40 - good)
    assert audio(path, 0) == sound(0)


def test_a_table_that_became_shorter_stops_the_job(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", 4)
    with pytest.raises(OSError, match=r"t\.parquet has changed: its row group 0 ends"):
        audio(path, 9)


def test_a_table_that_is_gone_stops_the_job_and_may_come_back(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with pytest.raises(FileNotFoundError):
        audio(path, 1)
    write(path, 4)
    assert audio(path, 1) == sound(1)

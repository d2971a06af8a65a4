"""Whatever byte of a set is damaged, `verify` finds it and says where."""

import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import failed_row, noise, noise_set, python, row, small_form, write_set

from audio_barlow_twins.shards.stored.form import logmel_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.sidecar import read_rows
from audio_barlow_twins.shards.stored.verify import Finding, verify
from audio_barlow_twins.shards.stored.writer import shard_name, writing_shard

SHARD = "shard-000000"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of log-mel with a failed clip."""
    form = small_form("logmel")
    shards = [
        {"a": noise(form, 50, 1), "lost": None, "b": noise(form, 300, 2), "c": noise(form, 7, 3)},
        {"d": noise(form, 20, 4)},
    ]
    return write_set(tmp_path_factory.mktemp("sound"), form, shards)


@pytest.fixture
def damaged(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "set"))


def findings_of(folder: Path) -> list[Finding]:
    return [finding for found in verify(folder) for finding in found]


def spans(tar: Path) -> Iterator[tuple[str, range]]:
    """Yield where each clip's members lie by tarfile's account, and '' for what comes behind."""
    with tarfile.open(tar) as file:
        end = 0
        for member in file:
            begin, end = member.offset, member.offset_data + -(-member.size // 512) * 512
            yield member.name.split(".")[0], range(begin, end)
    yield "", range(end, tar.stat().st_size)


@pytest.mark.parametrize("kind", ["wave", "logmel"])
def test_a_sound_set_has_no_findings(kind: str, tmp_path: Path) -> None:
    folder = noise_set(tmp_path, small_form(kind), [[3, 500], [], [0, 1]])
    assert list(verify(folder)) == [[], [], []]


def test_a_failed_clip_is_no_finding(sound: Path) -> None:
    assert findings_of(sound) == []


@settings(max_examples=100)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_in_a_tar_is_found_in_its_clip(
    sound: Path, place: float, bit: int
) -> None:
    data = bytearray((sound / f"{SHARD}.tar").read_bytes())
    position = int(place * len(data))
    (key,) = {key for key, span in spans(sound / f"{SHARD}.tar") if position in span}
    data[position] ^= 1 << bit
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / f"{SHARD}.tar").write_bytes(data)
        shutil.copy(sound / f"{SHARD}.parquet", folder)
        (finding,) = findings_of(folder)
    assert (finding.shard, finding.key) == (SHARD, key)


@pytest.mark.parametrize(
    "changed",
    [
        {"offset": 7},
        {"n_frames": 1},
        {"labels": ["x"]},
        {"mean": 0.5},
        {"message": "x"},
        {"tried_at": datetime(2026, 9, 1, tzinfo=UTC)},
        {"identity": "proxy 2"},
    ],
)
def test_any_changed_field_of_a_sidecar_is_found(damaged: Path, changed: dict) -> None:
    path = damaged / f"{SHARD}.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[0] |= changed
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    assert "does not match its own hash" in str(findings_of(damaged)[0])


@settings(max_examples=120, derandomize=True)  # the parser is Arrow's; the same damage each run
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_sidecar_never_stops_the_check(
    sound: Path, place: float, bit: int
) -> None:
    data = bytearray((sound / f"{SHARD}.parquet").read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / f"{SHARD}.parquet").write_bytes(data)
        shutil.copy(sound / f"{SHARD}.tar", folder)
        assert all(finding.shard == SHARD for finding in findings_of(folder))


@settings(max_examples=50)
@given(place=st.floats(0, 1, exclude_max=True))
def test_a_tar_that_was_cut_anywhere_is_found(sound: Path, place: float) -> None:
    data = (sound / f"{SHARD}.tar").read_bytes()
    kept = int(place * len(data))
    hurt = {key for key, span in spans(sound / f"{SHARD}.tar") if span.stop > kept and key}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / f"{SHARD}.tar").write_bytes(data[:kept])
        shutil.copy(sound / f"{SHARD}.parquet", folder)
        findings = findings_of(folder)
    assert {finding.key for finding in findings} == {"", *hurt}
    assert any(f"has {kept} bytes, written were {len(data)}" in f.problem for f in findings)


def test_something_appended_is_found(damaged: Path) -> None:
    with (damaged / f"{SHARD}.tar").open("ab") as file:
        file.write(b"more")
    assert {finding.problem.split(",")[0] for finding in findings_of(damaged)} == {
        "there is data after the last clip",
        f"{SHARD}.tar has {os.path.getsize(damaged / f'{SHARD}.tar')} bytes",
    }


def test_a_missing_tar_is_found_and_the_next_shard_is_still_checked(damaged: Path) -> None:
    (damaged / f"{SHARD}.tar").unlink()
    os.truncate(damaged / "shard-000001.tar", 100)
    first, second = verify(damaged)
    assert first == [Finding(SHARD, "", f"{SHARD}.tar is missing")]
    assert "d" in {finding.key for finding in second}


def test_tars_that_were_exchanged_are_found(damaged: Path) -> None:
    (damaged / f"{SHARD}.tar").replace(damaged / "spare")
    (damaged / "shard-000001.tar").replace(damaged / f"{SHARD}.tar")
    (damaged / "spare").replace(damaged / "shard-000001.tar")
    assert {finding.key for finding in findings_of(damaged)} >= {"a", "b", "c", "d"}


def test_a_shard_with_another_front_end_is_found_by_the_name_of_the_parameter(
    tmp_path: Path,
) -> None:
    noise_set(tmp_path / "other", logmel_form(FrontEnd(n_mels=4, hop=320)), [[1], [5]])
    noise_set(tmp_path / "set", small_form("logmel"), [[5]])
    for ending in ("tar", "parquet"):
        shutil.copy(tmp_path / "other" / f"shard-000001.{ending}", tmp_path / "set")
    (finding,) = findings_of(tmp_path / "set")
    assert finding.shard == "shard-000001"
    assert "hop is 320, wanted 160" in finding.problem


def test_a_file_that_is_no_sidecar_is_found(damaged: Path) -> None:
    (damaged / f"{SHARD}.parquet").write_bytes(b"junk")
    (finding,) = findings_of(damaged)
    assert (finding.shard, finding.key) == (SHARD, "")
    assert "is not a readable sidecar" in finding.problem


def test_a_key_that_comes_twice_is_found_in_the_shard_and_across_shards(tmp_path: Path) -> None:
    form = small_form("wave")
    write_set(tmp_path, form, [{"a": np.ones(5, np.int16)}, {"b": np.ones(6, np.int16)}])
    with_twice = write_set(tmp_path / "twice", form, [{"b": np.ones(6, np.int16)}])
    rows = read_rows(with_twice / f"{SHARD}.parquet")
    with writing_shard(tmp_path, "shard-000002", form, "plan") as writer:
        for _ in range(2):
            writer.add(rows[0], np.ones(6, np.int16))
    assert findings_of(tmp_path) == [
        Finding("shard-000002", "b", "duplicate key, first in shard-000001"),
        Finding("shard-000002", "b", "duplicate key, first in shard-000001"),
    ]


def test_a_clip_that_a_supplement_mends_is_no_duplicate_and_one_that_is_stored_twice_is(
    tmp_path: Path,
) -> None:
    form, sound = small_form("wave"), np.ones(5, np.int16)
    write_set(tmp_path, form, [{"a": sound, "b": None, "c": None}])
    for number, clips in enumerate([{"b": None, "c": sound}, {"b": sound}], 1):
        with writing_shard(tmp_path, shard_name(0, number), form, "plan") as writer:
            for key, array in clips.items():
                writer.fail(failed_row(key)) if array is None else writer.add(row(key), array)
    assert findings_of(tmp_path) == []
    with writing_shard(tmp_path, shard_name(0, 3), form, "plan") as writer:
        writer.add(row("c"), sound)
        writer.fail(failed_row("a"))
        writer.fail(failed_row("a"))
    assert findings_of(tmp_path) == [
        Finding("shard-000000-r3", "c", "duplicate key, first in shard-000000-r1"),
        Finding("shard-000000-r3", "a", "duplicate key, first in shard-000000"),
    ]


def test_the_command_exits_with_0_for_a_sound_set_1_for_a_damaged_and_2_for_none(
    sound: Path, damaged: Path
) -> None:
    hurt = read_rows(damaged / f"{SHARD}.parquet")[2]
    assert hurt.offset is not None
    with (damaged / f"{SHARD}.tar").open("r+b") as file:
        file.seek(hurt.offset)
        file.write(b"\xff\xff\xff")
    folders = (sound, damaged, damaged / "none")
    runs = [
        python("-m", "audio_barlow_twins", "shards", "verify", str(folder)) for folder in folders
    ]
    (good, _), (bad, errors), (_, refusal) = (run.communicate() for run in runs)
    assert [run.returncode for run in runs] == [0, 1, 2]
    assert good.splitlines() == ["2 shards, no findings"]
    assert bad.splitlines() == [
        f"{SHARD} b: the bytes of this clip do not match its checksum",
        "2 shards, 1 findings",
    ]
    assert "Traceback" not in errors
    assert refusal.startswith("error: ")
    assert refusal.count("\n") == 1

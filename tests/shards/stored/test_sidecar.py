"""The sidecar gives back what was put in, and a file that is none is refused in one line."""

import json
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import noise_set, row, small_form, write_set

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.form import FORMAT_VERSION, wave_form
from audio_barlow_twins.shards.stored.shardset import open_shards, sidecar_paths
from audio_barlow_twins.shards.stored.sidecar import (
    Row,
    Summary,
    read_rows,
    read_summary,
    rows_checksum,
    write_sidecar,
)
from audio_barlow_twins.shards.stored.statistics import Statistics
from audio_barlow_twins.shards.stored.writer import shard_name, writing_shard

SUMMARY = Summary(
    form=small_form("logmel"),
    plan="plän",
    tar_bytes=2**40,
    n_ok=3,
    checksum="c" * 32,
    statistics=Statistics(7, -5.25, 1e-3),
)


def whole_seconds(time: datetime) -> datetime:
    return time.replace(microsecond=0)


numbers = st.integers(0, 2**62)
rows = st.builds(
    Row,
    key=st.text(min_size=1),
    status=st.sampled_from(["ok", "failed"]),
    failure=st.none() | st.text(),
    message=st.none() | st.text(),
    attempts=st.integers(0, 2**31 - 1),
    tried_at=st.none() | st.datetimes(timezones=st.just(UTC)).map(whole_seconds),
    identity=st.text(),
    source=st.text(),
    source_version=st.text(),
    origin=st.text(),
    labels=st.lists(st.text(), max_size=4),
    start_s=st.none() | st.floats(allow_nan=False),
    record_offset=st.none() | numbers,
    offset=st.none() | numbers,
    n_frames=st.none() | numbers,
    checksum=st.none() | st.text(),
    mean=st.none() | st.floats(allow_nan=False),
)


@settings(max_examples=50)
@given(written=st.lists(rows, max_size=5))
def test_rows_and_summary_survive_the_file(written: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard-000000.parquet"
        write_sidecar(path, written, SUMMARY)
        assert read_rows(path) == written
        assert read_summary(path) == SUMMARY


def test_a_table_reader_that_knows_nothing_of_us_reads_it(tmp_path: Path) -> None:
    write_sidecar(tmp_path / "s.parquet", [row("a"), row("b", labels=[])], SUMMARY)
    table = pq.read_table(tmp_path / "s.parquet")
    assert table["key"].to_pylist() == ["a", "b"]
    assert table["labels"].to_pylist() == [["bell", "Töne"], []]


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_summary(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not Parquet at all", bytes(4000)])
def test_a_file_that_is_not_parquet_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "shard-000000.parquet"
    path.write_bytes(content)
    assert "is not a readable sidecar" in refusal(path)


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    assert "is not a readable sidecar" in refusal(tmp_path / "shard-000000.parquet")


def test_a_parquet_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shard-000000.parquet"
    pq.write_table(pa.table({"key": ["a"]}), path)
    assert "no sidecar of ours" in refusal(path)


def with_metadata(path: Path, **changed: object) -> None:
    """Rewrite a sidecar's footer."""
    table = pq.read_table(path)
    metadata = {**table.schema.metadata, **{k.encode(): json.dumps(v) for k, v in changed.items()}}
    pq.write_table(table.replace_schema_metadata(metadata), path)


def test_another_format_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    path = tmp_path / "shard-000000.parquet"
    write_sidecar(path, [], SUMMARY)
    with_metadata(path, format_version=FORMAT_VERSION + 6)
    assert f"format version {FORMAT_VERSION + 6}, this code reads {FORMAT_VERSION}" in refusal(path)


def test_a_front_end_that_was_edited_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shard-000000.parquet"
    write_sidecar(path, [], SUMMARY)
    with_metadata(path, front_end={**SUMMARY.form.parameters, "hop": 320})
    assert "the front-end does not match its own hash" in refusal(path)


@given(place=st.integers(0, 2), change=st.sampled_from(["key", "checksum", "failure", "order"]))
def test_the_checksum_of_rows_depends_on_keys_checksums_failures_and_order(
    place: int, change: str
) -> None:
    before = [row("a", checksum="1"), row("b", failure="bad_audio"), row("c", checksum="2")]
    after = list(before)
    if change == "order":
        after[place], after[place - 1] = after[place - 1], after[place]
    else:
        after[place] = replace(
            after[place], **{"failure": "x", "checksum": None if change == "failure" else "x"}
        )
        if change == "key":
            after[place] = replace(before[place], key="x")
    assert rows_checksum(after) != rows_checksum(before)


def test_the_set_numbers_its_clips_by_shard_and_row_and_skips_the_failed(tmp_path: Path) -> None:
    form = wave_form()
    arrays = [np.full(n, n, np.int16) for n in (3, 4, 5, 6)]
    folder = write_set(
        tmp_path,
        form,
        [{"z": arrays[0], "x": None}, {"y": None}, {"b": arrays[1], "a": arrays[2]}],
    )
    shard_set = open_shards(folder)
    assert shard_set.keys == ["z", "b", "a"]
    assert shard_set.n_frames.tolist() == [3, 4, 5]
    assert shard_set.shard_of(np.arange(3)).tolist() == [0, 2, 2]
    assert shard_set.hours == 12 / 16000 / 3600


def test_the_fingerprint_depends_on_every_clip(tmp_path: Path) -> None:
    form = wave_form()
    clips = {key: np.full(5, i, np.int16) for i, key in enumerate("abc")}
    shards = [{"a": clips["a"], "b": clips["b"]}, {"c": clips["c"]}]
    other_sets = [
        shards,
        shards[:1],
        [shards[0], {"d": clips["c"]}],
        [shards[0], {"c": clips["a"]}],
        [shards[0], {"c": None}],
        [{"b": clips["b"], "a": clips["a"]}, shards[1]],
        [{"a": clips["a"]}, {"b": clips["b"], "c": clips["c"]}],
    ]
    prints = [
        open_shards(write_set(tmp_path / str(i), form, shards)).fingerprint
        for i, shards in enumerate(other_sets)
    ]
    assert len(set(prints)) == len(prints)
    again = open_shards(write_set(tmp_path / "again", form, shards)).fingerprint
    assert again == prints[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "missing does not exist; make it with"),
        ("", "holds no finished shard"),
    ],
)
def test_a_set_that_is_not_there_is_refused(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        open_shards(tmp_path / name)


def test_a_set_in_which_every_clip_failed_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path, wave_form(), [{"a": None}])
    with pytest.raises(UserError, match="holds no clip: all failed"):
        open_shards(tmp_path)


def test_shards_of_two_kinds_are_not_one_set(tmp_path: Path) -> None:
    noise_set(tmp_path, wave_form(), [[5], [6]])
    noise_set(tmp_path, small_form("logmel"), [[5]])
    with pytest.raises(UserError, match=r"shard-000001\.parquet holds wave clips, wanted logmel"):
        open_shards(tmp_path)


def test_a_set_with_another_front_end_than_the_wanted_is_refused(tmp_path: Path) -> None:
    noise_set(tmp_path, small_form("logmel"), [[5]])
    wanted = replace(small_form("logmel"), parameters={**SUMMARY.form.parameters, "hop": 320})
    with pytest.raises(UserError, match="has another front-end: hop is 160, wanted 320"):
        open_shards(tmp_path, wanted)


def test_supplements_come_behind_their_shard_by_their_number(tmp_path: Path) -> None:
    names = [shard_name(2, n) for n in (10, 0, 9, 1)] + [shard_name(n) for n in (10**6, 999_999)]
    for number, name in enumerate(names):
        with writing_shard(tmp_path, name, wave_form(), "plan") as writer:
            writer.add(row(f"clip{number}"), np.full(number + 1, number, np.int16))
    shard_set = open_shards(tmp_path)
    wanted = ["000002", "000002-r1", "000002-r9", "000002-r10", "999999", "1000000"]
    assert shard_set.names == [f"shard-{name}" for name in wanted]
    assert shard_set.n_frames.tolist() == [2, 4, 3, 1, 6, 5]


def test_scratch_files_and_strangers_are_no_shards(tmp_path: Path) -> None:
    noise_set(tmp_path, wave_form(), [[5]])
    for name in (".shard-000001.parquet.0.tmp", "notes.txt", "other.parquet"):
        (tmp_path / name).write_text("x")
    assert [path.name for path in sidecar_paths(tmp_path)] == ["shard-000000.parquet"]

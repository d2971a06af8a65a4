"""Columns of tables: classes with names, structs, other audio columns, odd values."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audio_barlow_twins.ingest.sources.clip import Clip
from audio_barlow_twins.ingest.sources.tables import Parquet
from audio_barlow_twins.ingest.stage.part import audio_file
from audio_barlow_twins.shards.base.errors import UserError

AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
CLASS = {"_type": "ClassLabel", "names": ["Speech", "Dog", "Cat"]}


def write(path: Path, features: object = None, n: int = 3, **columns: object) -> Path:
    """Write a table of `n` rows of audio and further columns, as `datasets` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": b"sound %d" % number, "path": f"c{number}.wav"} for number in range(n)]
    table = pa.table({"audio": pa.array(rows, AUDIO), **columns})
    if features is not None:
        about = features if isinstance(features, bytes) else json.dumps(features)
        table = table.replace_schema_metadata({"huggingface": about})
    pq.write_table(table, path)
    return path


def clips_of(path: Path, **options: str) -> list[Clip]:
    """List the rows of a table."""
    return list(Parquet(urls=(str(path),), **options).clips())  # type: ignore[arg-type]


def contents(clips: list[Clip]) -> list[bytes]:
    """Return the audio of clips."""
    found = []
    for clip in clips:
        with audio_file(clip) as path:
            found.append(Path(path).read_bytes())
    return found


SOUNDS = [b"sound 0", b"sound 1", b"sound 2"]


@pytest.mark.parametrize(
    ("column", "feature", "field"),
    [
        ([0, 2, 1], CLASS, "label"),
        ([[0], [2], [1]], {"_type": "Sequence", "feature": CLASS}, "label"),
        ([[0], [2], [1]], {"_type": "List", "feature": CLASS}, "label"),
        ([[0], [2], [1]], [CLASS], "label"),
        ([{"of": 0}, {"of": 2}, {"of": 1}], {"of": CLASS}, "label.of"),
        ([[{"of": 0}], [{"of": 2}], [{"of": 1}]], [{"of": CLASS}], "label.of"),
        ([{"of": [0]}, {"of": [2]}, {"of": [1]}], {"_type": "Sequence", "feature": {"of": CLASS}},
         "label.of"),
    ],
)  # fmt: skip
def test_numbers_of_a_class_become_its_names(
    column: list, feature: object, field: str, tmp_path: Path
) -> None:
    about = {"info": {"features": {"label": feature}}}
    clips = clips_of(write(tmp_path / "t.parquet", about, label=column), label_field=field)
    assert [clip.labels for clip in clips] == [("Speech",), ("Cat",), ("Dog",)]


def test_a_number_without_a_name_is_a_row_that_says_so(tmp_path: Path) -> None:
    about = {"info": {"features": {"label": CLASS}}}
    path = write(tmp_path / "t.parquet", about, label=[-1, 3, None])
    assert [clip.refused for clip in clips_of(path, label_field="label")] == [
        f"t.parquet, row {row} of row group 0: label is {label}, and the table names classes 0 to 2"
        for row, label in ((0, -1), (1, 3))
    ] + [""]


@pytest.mark.parametrize(
    "features", [None, {}, {"info": None}, [], b"{broken", b"[" * 50_000, {"info": {"features": 3}}]
)
def test_without_names_a_number_is_its_digits(features: object, tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", features, label=[0, 1, 2])
    assert [clip.labels for clip in clips_of(path, label_field="label")] == [("0",), ("1",), ("2",)]


@pytest.mark.parametrize(
    ("column", "field"),
    [
        ([{"name": "a", "p": 1}, {"name": "b", "p": 1}, None], "tags.name"),
        ([[{"name": "a"}], [{"name": " b"}, {"name": "b"}], []], "tags.name"),
        ([{"x": {"y": ["a"]}}, {"x": {"y": ["b"]}}, {"x": None}], "tags.x.y"),
    ],
)
def test_a_path_leads_into_structs_and_lists_of_them(
    column: list, field: str, tmp_path: Path
) -> None:
    clips = clips_of(write(tmp_path / "t.parquet", tags=column), label_field=field)
    assert [clip.labels for clip in clips] == [("a",), ("b",), ()]


def test_a_column_with_a_dot_in_its_name_wins(tmp_path: Path) -> None:
    columns = {"tags": [{"name": "a"}] * 3, "tags.name": ["dotted"] * 3}
    clips = clips_of(write(tmp_path / "t.parquet", **columns), label_field="tags.name")
    assert {clip.labels for clip in clips} == {("dotted",)}


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        ([{"a": 1}] * 3, 'label is {"a": 1}, wanted text'),
        ([[["a"]]] * 3, 'label holds ["a"], wanted text'),
        ([True] * 3, "label is true, wanted text"),
        ([0.5] * 3, "label is 0.5, wanted text"),
        ([b"a"] * 3, "label is \"b'a'\", wanted text"),
    ],
)
def test_values_that_are_no_labels_are_rows_that_show_them(
    column: list, shown: str, tmp_path: Path
) -> None:
    clips = clips_of(write(tmp_path / "t.parquet", label=column), label_field="label")
    assert [clip.key for clip in clips] == ["c0", "c1", "c2"]
    assert all(f"t.parquet, row {n} of row group 0: {shown}" in clip.refused
               for n, clip in enumerate(clips))  # fmt: skip


def test_text_that_is_no_utf_8_is_one_row_that_says_so(tmp_path: Path) -> None:
    text = pa.array([b"good", b"\xff\xfe", b"fine"]).view(pa.string())
    path = write(tmp_path / "t.parquet", label=text, id=text)
    clips = clips_of(path, label_field="label")
    assert [clip.labels for clip in clips] == [("good",), (), ("fine",)]
    assert "can't decode byte 0xff" in clips[1].refused
    named = clips_of(path, key_field="id")
    assert [clip.key for clip in named] == ["good", "c1", "fine"]
    assert "row 1 of row group 0: id: 'utf-8' codec can't decode" in named[1].refused
    assert [named[0].refused, named[2].refused] == ["", ""]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("how", ["struct", "bytes", "nested", "nested bytes", "dotted"])
def test_audio_may_be_in_any_column_of_bytes(kind: pa.DataType, how: str, tmp_path: Path) -> None:
    sounds = pa.array(SOUNDS, kind)
    struct = pa.StructArray.from_arrays([pa.array(["x"] * 3), sounds], ["path", "bytes"])
    columns, field = {
        "struct": ({"flac": struct}, "flac"),
        "bytes": ({"flac": sounds}, "flac"),
        "nested": ({"data": pa.StructArray.from_arrays([struct], ["audio"])}, "data.audio"),
        "nested bytes": ({"data": pa.StructArray.from_arrays([sounds], ["raw"])}, "data.raw"),
        "dotted": ({"data.audio": struct}, "data.audio"),
    }[how]
    pq.write_table(pa.table({"id": ["a", "b", "c"], **columns}), tmp_path / "t.parquet")
    clips = clips_of(tmp_path / "t.parquet", audio_field=field, key_field="id")
    assert [clip.key for clip in clips] == ["a", "b", "c"]
    assert contents(clips) == SOUNDS


@pytest.mark.parametrize(
    ("column", "field", "reason"),
    [
        ([[b"x"]] * 3, "other", "the column other is list<"),
        ([{"array": [0.1]}] * 3, "other", "the column other is struct<"),
        ([{"bytes": "text"}] * 3, "other", "the column other.bytes is string"),
        ([[{"bytes": b"x"}]] * 3, "other", "the column other is list<"),
        ([[{"a": {"bytes": b"x"}}]] * 3, "other.a", "the column other.a is list<"),
        ([b"x"] * 3, "absent", "lacks the column absent; it has audio, other: see --audio-field"),
        ([b"x"] * 3, "other.x", "lacks the column other.x; it has"),
    ],
)
def test_audio_of_another_type_or_place_is_one_line(
    column: list, field: str, reason: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "t.parquet", other=column)
    with pytest.raises(UserError) as caught:
        clips_of(path, audio_field=field)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_with_decimals_are_segments_or_keep_all_of_themselves(tmp_path: Path) -> None:
    ids = ["Yabcdefghijk_30.000", "--PJHxphWEs_1.5_11.5", "x.y.z"]
    path = write(tmp_path / "t.parquet", n=2, id=ids[:2])
    clips = clips_of(path, key_field="id", names="audioset")
    assert [(clip.key, clip.start_s, clip.end_s) for clip in clips] == [
        ("abcdefghijk_30000", 30.0, None),
        ("--PJHxphWEs_1500", 1.5, 11.5),
    ]
    plain = clips_of(write(tmp_path / "u.parquet", id=ids), key_field="id")
    assert plain[2].key.startswith("x_y_z-")


def test_a_row_without_a_key_is_named_after_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", id=pa.array([7, None, 9]))
    assert [clip.key for clip in clips_of(path, key_field="id")] == ["7", "c1", "9"]


@pytest.mark.parametrize("column", [[{"a": "x"}] * 3, [["x"]] * 3, [b"x"] * 3])
def test_a_key_column_that_holds_no_text_is_one_line(column: list, tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", id=column)
    with pytest.raises(UserError, match=r"the column id is .*, wanted text: see --key-field"):
        clips_of(path, key_field="id")


def test_a_column_whose_name_is_no_utf_8_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", namedx=["a"] * 3)
    path.write_bytes(path.read_bytes().replace(b"namedx", b"named\xff"))
    with pytest.raises(UserError, match="cannot be read as a Parquet table") as caught:
        clips_of(path)
    assert "\n" not in str(caught.value)

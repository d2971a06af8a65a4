"""Parquet tables in Hugging Face's layout as a source."""

from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audio_barlow_twins.ingest.sources.clip import Clip
from audio_barlow_twins.ingest.sources.demo.corpus import HERE
from audio_barlow_twins.ingest.sources.tables import table_clips
from audio_barlow_twins.ingest.stage.part import audio_file
from audio_barlow_twins.ingest.stage.plan import Plan
from audio_barlow_twins.ingest.stage.stage import Job, ingest_shard
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.decode.sound import DecodeLimits, decode
from audio_barlow_twins.shards.stored.form import wave_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.sidecar import read_clip, read_rows

BELLS = sorted((HERE / "audio" / "bell").glob("*.opus"))
LIMITS = DecodeLimits()


def write_table(path: Path, files: list[Path], **columns: list) -> Path:
    """Write a table as `datasets` writes an Audio column, two rows a group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    table = pa.table({"video_id": [f"-{file.stem}_0" for file in files], "audio": audio, **columns})
    pq.write_table(table, path, row_group_size=2)
    return path


def clips_of(*urls: Path | str, key: str = "video_id", label: str = "") -> list[Clip]:
    return table_clips(tuple(map(str, urls)), key, label)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two tables with labels as a list and as a text."""
    folder = tmp_path_factory.mktemp("mirror")
    for number, files in enumerate((BELLS[:5], BELLS[5:])):
        lists = [["Bell", file.stem] for file in files]
        texts = [file.stem for file in files]
        write_table(folder / f"part-{number}.parquet", files, human_labels=lists, name=texts)
    return folder


def test_rows_come_in_order_under_the_name_of_their_column(mirror: Path) -> None:
    clips = clips_of(mirror)
    assert [clip.key for clip in clips] == [f"-{file.stem}_0" for file in BELLS]
    assert clips[3].origin == f"part-0.parquet/1/1/{BELLS[3].name}"


def test_without_a_column_the_audio_file_names_the_row(mirror: Path) -> None:
    assert [clip.key for clip in clips_of(mirror, key="")] == [file.stem for file in BELLS]


def test_labels_may_be_lists_or_one_text_or_none(mirror: Path) -> None:
    assert clips_of(mirror, label="human_labels")[0].labels == ("Bell", BELLS[0].stem)
    assert clips_of(mirror, label="name")[0].labels == (BELLS[0].stem,)
    assert clips_of(mirror)[0].labels == ()


def test_the_audio_of_a_clip_is_what_the_row_holds(mirror: Path) -> None:
    pairs = list(zip(clips_of(mirror), BELLS, strict=True))
    for clip, file in [*pairs, pairs[0]]:
        with audio_file(clip) as path:
            assert Path(path).read_bytes() == file.read_bytes()


def test_a_table_behind_a_url_is_read_like_a_file(mirror: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/tables/part-0.parquet", (mirror / "part-0.parquet").read_bytes())
    clips = clips_of("memory://tables")
    with audio_file(clips[4]) as path:
        assert Path(path).read_bytes() == BELLS[4].read_bytes()


def test_a_set_holds_what_ffmpeg_makes_of_the_bytes_and_a_row_for_what_is_not_there(
    tmp_path: Path,
) -> None:
    audio = [
        {"bytes": BELLS[0].read_bytes(), "path": None},
        {"bytes": None, "path": "lost.flac"},
        None,
        {"bytes": b"no sound", "path": "bad.flac"},
    ]
    table = pa.table({"video_id": ["a", "b", "c", "d"], "audio": audio})
    pq.write_table(table, tmp_path / "x.parquet")
    job = Job(out=tmp_path, front_end=FrontEnd(), limits=LIMITS)
    (shard,) = Plan("parquet", clips_of(tmp_path / "x.parquet"), 10)
    assert ingest_shard((job, shard)).outcomes == {"ok": 1, "bad_audio": 3}
    rows = read_rows(tmp_path / "wave" / "shard-000000.parquet")
    assert [row.key for row in rows] == ["a", "b", "c", "d"]
    assert rows[1].message == rows[2].message == "the table holds no bytes for it"
    with (tmp_path / "wave" / "shard-000000.tar").open("rb") as tar:
        found = read_clip(tar, rows[0], wave_form())
    np.testing.assert_array_equal(found, decode(str(BELLS[0]), LIMITS))


def test_a_missing_column_is_one_line_that_lists_those_that_are_there(mirror: Path) -> None:
    with pytest.raises(UserError, match=r"lacks the column mids; it has .*human_labels.*: see"):
        clips_of(mirror, label="mids")


def test_audio_of_another_type_is_one_line(tmp_path: Path) -> None:
    pq.write_table(pa.table({"video_id": ["a"], "audio": ["a.flac"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="the column audio is string, wanted a struct with bytes"):
        clips_of(tmp_path)


def test_a_file_that_is_no_table_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"hello" * 100)
    with pytest.raises(UserError, match="cannot be read as a Parquet table") as caught:
        clips_of(tmp_path)
    assert "\n" not in str(caught.value)

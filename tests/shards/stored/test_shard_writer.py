"""A shard is an ordinary WebDataset tar, its sidecar knows its bytes, it is whole or absent."""

import json
import signal
import string
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import webdataset
from hypothesis import example, given, settings
from hypothesis import strategies as st
from making import (
    SMALL,
    arrays_of,
    failed_row,
    noise,
    noise_set,
    python,
    row,
    small_form,
    write_set,
)

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import remove_scratch, replacing
from audio_barlow_twins.shards.stored.form import logmel_form, wave_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.shardset import open_shards
from audio_barlow_twins.shards.stored.sidecar import read_clip, read_rows, read_summary
from audio_barlow_twins.shards.stored.verify import verify
from audio_barlow_twins.shards.stored.writer import (
    committed_plans,
    is_committed,
    shard_name,
    writing_shard,
)

# No dot and no slash; two keys are never equal, also where the file system folds case.
keys = st.text(string.ascii_letters + string.digits + "_- é声", min_size=1, max_size=30)
clips = st.dictionaries(keys, st.one_of(st.none(), st.integers(0, 400)), max_size=6)
kinds = st.sampled_from(["wave", "logmel"])


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def is_sound(folder: Path) -> bool:
    return not any(verify(folder))


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # it leaves closing to Python
@settings(max_examples=40)
@given(kind=kinds, lengths=clips)
def test_stock_webdataset_reads_exactly_what_was_written(
    kind: str, lengths: dict[str, int | None]
) -> None:
    form = small_form(kind)
    written = {
        key: None if length is None else noise(form, length, seed)
        for seed, (key, length) in enumerate(lengths.items())
    }
    stored = {key: array for key, array in written.items() if array is not None}
    with tempfile.TemporaryDirectory() as name:
        folder = write_set(Path(name), form, [written])
        data = webdataset.WebDataset(
            str(folder / "shard-000000.tar"), shardshuffle=False, empty_check=False
        )
        samples = list(data.decode())
        arrays = arrays_of(folder)
    assert [sample["__key__"] for sample in samples] == list(stored)
    for sample, key, array in zip(samples, stored, arrays, strict=True):
        np.testing.assert_array_equal(array, stored[key])
        if kind == "logmel":
            np.testing.assert_array_equal(sample["npy"], stored[key])
        assert sample["json"] == {
            "key": key, "labels": ["bell", "Töne"], "start_s": 0.0, "end_s": 1.5,
        }  # fmt: skip


@settings(max_examples=40)
@given(kind=kinds, lengths=clips)
# An NPY file of 128 + 48 * 8 bytes and a WAV file of 44 + 234 * 2 fill their tar block exactly.
@example(kind="logmel", lengths={"a": 48, "b": 47, "c": 49})
@example(kind="wave", lengths={"a": 234, "b": 233, "c": 235})
def test_the_offset_of_a_row_is_its_first_frame(kind: str, lengths: dict[str, int | None]) -> None:
    form = small_form(kind)
    with tempfile.TemporaryDirectory() as name:
        arrays = {
            key: None if length is None else noise(form, length, seed)
            for seed, (key, length) in enumerate(lengths.items())
        }
        folder = write_set(Path(name), form, [arrays])
        rows = read_rows(folder / "shard-000000.parquet")
        assert [row.key for row in rows] == list(arrays)
        for row_ in rows:
            array = arrays[row_.key]
            if array is None:
                assert (row_.status, row_.offset, row_.n_frames) == ("failed", None, None)
                continue
            assert (row_.status, row_.n_frames) == ("ok", len(array))
            with (folder / "shard-000000.tar").open("rb") as tar:
                np.testing.assert_array_equal(read_clip(tar, row_, form), array)
            if len(array):
                mapped = np.memmap(
                    folder / "shard-000000.tar", form.dtype, "r", row_.offset, array.shape
                )
                np.testing.assert_array_equal(mapped, array)


@pytest.mark.parametrize("kind", ["wave", "logmel"])
def test_a_record_is_the_clips_members_and_nothing_else(kind: str, tmp_path: Path) -> None:
    folder = noise_set(tmp_path, small_form(kind), [[10, 400, 0, 33]])
    with tarfile.open(folder / "shard-000000.tar") as tar:
        members = tar.getmembers()
    for row_ in read_rows(folder / "shard-000000.parquet"):
        own = [member for member in members if member.name.split(".")[0] == row_.key]
        end = own[-1].offset_data + -(-own[-1].size // 512) * 512
        assert (row_.record_offset, row_.record_bytes) == (own[0].offset, end - own[0].offset)


@pytest.mark.parametrize("kind", ["wave", "logmel"])
def test_a_second_writing_gives_the_same_bytes(kind: str, tmp_path: Path) -> None:
    one = noise_set(tmp_path / "one", small_form(kind), [[10, 400], [33]])
    other = noise_set(tmp_path / "other", small_form(kind), [[10, 400], [33]])
    assert files_in(one) == files_in(other)
    for path in one.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes()


def test_the_tar_does_not_say_who_wrote_it_and_when(tmp_path: Path) -> None:
    folder = noise_set(tmp_path, wave_form(), [[10]])
    with tarfile.open(folder / "shard-000000.tar") as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid) == (0, 0, 0)
            assert (member.uname, member.gname) == ("", "")


def write_badly(folder: Path) -> None:
    """Fail inside the block, after a clip."""
    with writing_shard(folder, "shard-000000", wave_form(), "plan") as writer:
        writer.add(row("a"), noise(wave_form(), 1000, seed=1))
        raise ZeroDivisionError


def commit_badly(folder: Path) -> None:
    """Fail behind the block: Parquet refuses the number of attempts."""
    with writing_shard(folder, "shard-000000", wave_form(), "plan") as writer:
        writer.add(row("a"), noise(wave_form(), 5, seed=1))
        writer.fail(row("b", status="failed", attempts="many"))


def test_an_exception_inside_the_block_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write_badly(tmp_path)
    assert files_in(tmp_path) == set()


def test_an_exception_inside_the_block_keeps_the_previous_pair(tmp_path: Path) -> None:
    noise_set(tmp_path, wave_form(), [[1000]])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ZeroDivisionError):
        write_badly(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_sidecar_that_cannot_be_written_does_not_leave_the_old_one_beside_a_new_tar(
    tmp_path: Path,
) -> None:
    noise_set(tmp_path, wave_form(), [[1000]])
    with pytest.raises(pa.ArrowInvalid):
        commit_badly(tmp_path)
    assert "shard-000000.parquet" not in files_in(tmp_path) or is_sound(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, "tests/shards")
from making import noise, row
from audio_barlow_twins.shards.stored.form import wave_form
from audio_barlow_twins.shards.stored.writer import writing_shard
with writing_shard(Path(sys.argv[1]), "shard-000000", wave_form(), "plan") as writer:
    for i in range(20):
        writer.add(row(f"k{i}"), noise(wave_form(), 5000, seed=i))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_the_shard_absent_or_as_it_was_and_the_next_run_makes_it(
    tmp_path: Path,
) -> None:
    form = wave_form()
    old = noise_set(tmp_path / "old", form, [[1000]])
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    folders = [tmp_path / "new", old]
    victims = [python("-c", KILLED, str(folder)) for folder in folders]
    for victim in victims:
        _, errors = victim.communicate()
        assert victim.returncode == -signal.SIGKILL, errors
    assert not list(folders[0].glob("shard-*"))
    assert {path.name: path.read_bytes() for path in old.glob("shard-*")} == before
    for folder in folders:
        assert list(folder.glob(".*.tmp"))
        write_set(folder, form, [{"again": noise(form, 70, seed=3)}])
        remove_scratch(folder)
        assert files_in(folder) == {"shard-000000.tar", "shard-000000.parquet"}
        assert is_sound(folder)
        np.testing.assert_array_equal(arrays_of(folder)[0], noise(form, 70, seed=3))


def test_a_tar_without_a_sidecar_does_not_exist(tmp_path: Path) -> None:
    form = wave_form()
    noise_set(tmp_path, form, [[5], [6, 7]])
    (tmp_path / "shard-000001.parquet").unlink()
    assert not is_committed(tmp_path, "shard-000001", form, "plan")
    assert len(open_shards(tmp_path)) == 1
    assert is_sound(tmp_path)


def test_only_the_shard_that_was_planned_counts_as_committed(tmp_path: Path) -> None:
    form = logmel_form(SMALL)
    assert not is_committed(tmp_path, shard_name(0), form, "plan")
    noise_set(tmp_path, form, [[5]])
    assert is_committed(tmp_path, shard_name(0), form, "plan")
    with pytest.raises(UserError, match="made from another list of clips"):
        is_committed(tmp_path, shard_name(0), form, "other plan")
    with pytest.raises(UserError, match="n_mels is 4, wanted 64"):
        is_committed(tmp_path, shard_name(0), logmel_form(FrontEnd()), "plan")
    with pytest.raises(UserError, match="holds logmel clips, wanted wave"):
        is_committed(tmp_path, shard_name(0), wave_form(), "plan")


def test_the_plans_of_finished_shards_are_listed_and_those_of_others_refused(
    tmp_path: Path,
) -> None:
    form = logmel_form(SMALL)
    assert committed_plans(tmp_path / "missing", form) == {}
    noise_set(tmp_path, form, [[5], [6], [7]])
    with writing_shard(tmp_path, shard_name(0, 2), form, "again") as writer:
        writer.fail(failed_row("a"))
    (tmp_path / "shard-000001.parquet").unlink()
    (tmp_path / "shard-000002.tar").unlink()
    assert committed_plans(tmp_path, form) == {"shard-000000": "plan", "shard-000000-r2": "again"}
    with pytest.raises(UserError, match="n_mels is 4, wanted 64"):
        committed_plans(tmp_path, logmel_form(FrontEnd()))


def test_the_report_counts_clips_by_outcome(tmp_path: Path) -> None:
    form = wave_form()
    with writing_shard(tmp_path, shard_name(0), form, "plan") as writer:
        writer.add(row("a"), noise(form, 9, seed=0))
        for key in "bcd":
            writer.fail(failed_row(key))
    assert writer.report().clips == 4
    assert writer.report().outcomes == {"ok": 1, "bad_audio": 3}
    assert read_summary(tmp_path / "shard-000000.parquet").n_ok == 1


def test_a_clip_whose_bytes_are_not_all_there_is_not_read(tmp_path: Path) -> None:
    form = wave_form()
    noise_set(tmp_path, form, [[3000]])
    (only,) = read_rows(tmp_path / "shard-000000.parquet")
    tar = tmp_path / "shard-000000.tar"
    tar.write_bytes(tar.read_bytes()[: only.offset + 2000])
    with tar.open("rb") as file, pytest.raises(UserError, match=only.key):
        read_clip(file, only, form)


def test_a_clip_that_failed_cannot_be_read(tmp_path: Path) -> None:
    folder = write_set(tmp_path, wave_form(), [{"lost": None}])
    (lost,) = read_rows(folder / "shard-000000.parquet")
    tar = folder / "shard-000000.tar"
    with tar.open("rb") as file, pytest.raises(ValueError, match="lost is not in the tar: bad_au"):
        read_clip(file, lost, wave_form())


@pytest.mark.parametrize("fails", [False, True])
def test_a_replaced_file_is_the_old_one_or_the_new_one(fails: bool, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    with replacing(target) as scratch:
        scratch.write_text("old")
    with suppress(ZeroDivisionError), replacing(target) as scratch:
        scratch.write_text("new")
        assert target.read_text() == "old"
        if fails:
            raise ZeroDivisionError
    assert target.read_text() == ("old" if fails else "new")
    assert files_in(target.parent) == {"file"}


def test_the_json_of_a_clip_is_readable_text(tmp_path: Path) -> None:
    folder = write_set(tmp_path, wave_form(), [{"a": noise(wave_form(), 3, seed=0)}])
    with tarfile.open(folder / "shard-000000.tar") as tar:
        text = tar.extractfile("a.json").read().decode()  # type: ignore[union-attr]
    assert "Töne" in text
    assert json.loads(text)["labels"] == ["bell", "Töne"]


@pytest.mark.parametrize("key", ["", "a.b", "a/b", "k" * 96, "é" * 48])
def test_a_key_that_webdataset_would_not_give_back_is_refused(key: str, tmp_path: Path) -> None:
    form = small_form("logmel")
    with (
        pytest.raises(ValueError, match="without dot and slash"),
        writing_shard(tmp_path, "shard-000000", form, "plan") as writer,
    ):
        writer.add(row(key), noise(form, 3, 0))
    assert not list(tmp_path.iterdir())

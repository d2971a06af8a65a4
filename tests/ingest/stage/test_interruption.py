"""Kills and Ctrl-C: what is finished stays, nothing half-written shows, the end is the same."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from interrupted_run import SETS, Files, Story, files_of, finished_files


def test_ctrl_c_ends_the_run_within_seconds(story: Story) -> None:
    assert story.interrupted_code == 130
    assert story.interrupted_s < 45


def test_ctrl_c_is_answered_with_one_line_and_no_traceback(story: Story) -> None:
    last = story.interrupted_text.splitlines()[-1]
    assert last.startswith("interrupted; what was finished is kept")
    assert "Traceback" not in story.interrupted_text


def test_ctrl_c_leaves_no_process_behind(story: Story) -> None:
    assert story.left_by_interrupt == []


def test_a_killed_driver_leaves_no_process_behind(story: Story) -> None:
    assert story.left_by_kill == []


def test_the_kills_hit_a_run_that_was_on_its_way(story: Story) -> None:
    counts = [
        len(finished_files(files)) for files in (story.after_interrupt, story.after_kill, story.end)
    ]
    assert 0 < counts[0] < counts[1] < counts[2]


def test_every_shard_with_a_sidecar_is_sound_after_a_kill(story: Story) -> None:
    assert story.findings_after_kill == []


def test_finished_shards_are_not_written_again(story: Story) -> None:
    for files in (story.after_interrupt, story.after_kill):
        for name, value in finished_files(files).items():
            assert story.end[name] == value, name


def test_the_run_survives_a_lost_worker(story: Story) -> None:
    assert story.killed_worker.startswith("ray::ingest_shard")
    assert story.last_code == 0, story.last_text


def sets_of(files: Files) -> dict[str, object]:
    """Keep tars as their bytes and sidecars as their rows, without when a clip was tried."""
    return {
        name: content if name.endswith(".tar") else rows_of(content)
        for name, (_, content) in files.items()
        if Path(name).parts[0] in SETS
    }


def rows_of(content: bytes) -> list[dict]:
    return pq.read_table(pa.BufferReader(content)).drop_columns(["tried_at"]).to_pylist()


def test_the_end_is_that_of_an_undisturbed_run_its_tars_byte_for_byte(
    story: Story, undisturbed: Path
) -> None:
    wanted, found = sets_of(files_of(undisturbed)), sets_of(story.end)
    assert len(found) > 4
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []


def test_nothing_hidden_is_left_at_the_end(story: Story) -> None:
    assert [name for name in story.end if Path(name).name.startswith(".")] == []

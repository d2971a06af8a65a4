"""The stage as a user runs it: every planned clip has a row, and running again changes nothing.

The sets are those of a run that was interrupted three times, see interrupted_run.py: what is
finished stays, nothing half-written shows, the end is the same.
"""

import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from interrupted_run import SETS, Files, Story, files_of, finished_files

from audio_barlow_twins.ingest.run import Ingest, command_of
from audio_barlow_twins.ingest.sources.folder import folder_clips
from audio_barlow_twins.ingest.stage.plan import Plan
from audio_barlow_twins.ingest.stage.stage import Job, ingest_shard
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.progress import reporting_to
from audio_barlow_twins.shards.decode.cut import DecodeLimits
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.shardset import open_shards, sidecar_paths
from audio_barlow_twins.shards.stored.sidecar import Row, read_rows

SHARD_CLIPS = 8
Run = Callable[..., subprocess.CompletedProcess[str]]

folder: Any = command_of(Ingest, "folder")


def rows_of(folder: Path) -> list[Row]:
    """Read all rows of a set in their order."""
    return [row for path in sidecar_paths(folder) for row in read_rows(path)]


def mtimes(folder: Path) -> dict[str, int]:
    """Note when each file below a folder was changed, ns."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def but_for_lengths(times: dict[str, int]) -> dict[str, int]:
    """Leave out the file of measured lengths: those of another list are remembered, too."""
    return {path: at for path, at in times.items() if not path.endswith("durations.parquet")}


@pytest.mark.parametrize("kind", ["wave", "logmel"])
class TestSets:
    """What both sets of a finished run hold."""

    def test_every_planned_clip_has_a_row(self, finished: Path, tree: Path, kind: str) -> None:
        planned = [(clip.key, clip.origin) for clip in folder_clips(tree)]
        assert [(row.key, row.origin) for row in rows_of(finished / kind)] == planned

    def test_exactly_the_bad_files_failed_each_with_its_reason(
        self, finished: Path, bad_files: dict[str, str], kind: str
    ) -> None:
        failed = {row.origin: row for row in rows_of(finished / kind) if row.status != "ok"}
        assert failed.keys() == bad_files.keys()
        assert {(row.status, row.failure) for row in failed.values()} == {("failed", "bad_audio")}
        for origin, reason in bad_files.items():
            message = failed[origin].message or ""
            assert message.startswith(reason), origin
            assert "\n" not in message, origin
            assert "0x" not in message, origin

    def test_odd_file_names_reach_the_sidecar_and_their_clips_the_tar(
        self, finished: Path, odd_names: dict[bytes, str], kind: str
    ) -> None:
        rows = {row.origin: row for row in rows_of(finished / kind)}
        assert {rows[origin].status for origin in odd_names.values()} == {"ok"}

    def test_rows_say_what_made_them_and_where_the_clip_lies(
        self, finished: Path, kind: str
    ) -> None:
        for row in rows_of(finished / kind):
            assert row.source.startswith("folder tree")
            assert row.source_version.startswith("ffmpeg ")
            if row.status == "ok":
                assert row.start_s == 0.0
                assert (row.end_s or 0.0) >= 513 / 16000
            elif row.origin in ("bad/silent.wav", "bad/long.wav"):  # they could be measured
                assert (row.start_s, row.end_s) == (0, {"s": 1, "l": 20.001}[row.origin[4]])
            elif row.origin in ("bad/empty.wav", "bad/text.wav", "bad/picture.mp4"):
                assert row.end_s is None

    def test_the_tars_hold_exactly_the_good_clips(self, finished: Path, kind: str) -> None:
        ending = {"wave": "wav", "logmel": "npy"}[kind]
        for path in sidecar_paths(finished / kind):
            with tarfile.open(path.with_suffix(".tar")) as tar:
                names = tar.getnames()
            keys = [row.key for row in read_rows(path) if row.status == "ok"]
            assert names == [f"{key}.{end}" for key in keys for end in ("json", ending)]

    def test_the_set_verifies(self, finished: Path, run_command: Run, kind: str) -> None:
        done = run_command(
            [sys.executable, "-m", "audio_barlow_twins", "shards", "verify", str(finished / kind)]
        )
        assert (done.returncode, done.stdout.split(", ")[-1]) == (0, "no findings\n")


def test_the_frames_of_a_clip_follow_from_its_samples(finished: Path) -> None:
    wave, logmel = (open_shards(finished / kind) for kind in ("wave", "logmel"))
    assert wave.keys == logmel.keys
    assert (logmel.n_frames == wave.n_frames // 160 + 1).all()


def test_stored_waves_have_exactly_the_length_of_their_files(finished: Path, tree: Path) -> None:
    for row in rows_of(finished / "wave"):
        if row.status == "ok" and "\\x" not in row.origin:
            info = soundfile.info(tree / row.origin)
            assert row.n_frames == round(info.frames * 16000 / info.samplerate), row.origin


def test_a_second_run_changes_nothing(
    finished: Path, ingest_command: Callable[..., list[str]], run_command: Run
) -> None:
    before = mtimes(finished)
    done = run_command(ingest_command(finished))
    assert done.returncode == 0
    assert "13 shards planned, 0 to do" in done.stderr
    assert mtimes(finished) == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"shard_clips": SHARD_CLIPS + 1}, "made from another list of clips or another shard size"),
        ({"front_end": FrontEnd(hop=200)}, "has another front-end: hop is 160, wanted 200"),
    ],
)
def test_another_plan_for_a_finished_set_is_refused_and_changes_nothing(
    finished: Path, tree: Path, change: dict[str, Any], reason: str
) -> None:
    before = mtimes(finished)
    with pytest.raises(UserError, match=reason):
        folder(root=tree, out=str(finished), **({"shard_clips": SHARD_CLIPS} | change)).run()
    assert mtimes(finished) == before


def test_a_changed_folder_is_refused_and_changes_nothing(finished: Path, tree: Path) -> None:
    before = mtimes(finished)
    added = tree / "aaa.wav"
    added.write_bytes((tree / "plain.wav").read_bytes())
    try:
        with pytest.raises(UserError, match="made from another list of clips"):
            folder(root=tree, out=str(finished), shard_clips=SHARD_CLIPS).run()
    finally:
        added.unlink()
    assert but_for_lengths(mtimes(finished)) == but_for_lengths(before)


def test_a_missing_folder_is_one_line_and_exit_code_2(tmp_path: Path, run_command: Run) -> None:
    root, out = str(tmp_path / "absent"), tmp_path / "out"
    done = run_command(
        [sys.executable, "-m", "audio_barlow_twins", "ingest", "folder", root, "--out", str(out)]
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: {root} is not a folder; name the one that holds your audio files"
    ]
    assert not out.exists()


def test_waves_can_be_added_later_and_leave_the_logmel_shards_alone(
    tmp_path: Path, tree: Path, undisturbed: Path
) -> None:
    job = Job(out=tmp_path, front_end=FrontEnd(), limits=DecodeLimits(), keep_wave=False)
    shard = Plan("folder", folder_clips(tree), SHARD_CLIPS)[-1]
    ingest_shard((job, shard))
    before = mtimes(tmp_path / "logmel")
    report = ingest_shard((replace(job, keep_wave=True), shard))
    assert report.clips == len(shard.clips)
    assert mtimes(tmp_path / "logmel") == before
    for kind in ("wave", "logmel"):
        made = (tmp_path / kind / f"{shard.name}.tar").read_bytes()
        assert made == (undisturbed / kind / f"{shard.name}.tar").read_bytes()


def test_a_shard_reports_each_of_its_clips_those_that_fail_too(tmp_path: Path, tree: Path) -> None:
    job = Job(out=tmp_path, front_end=FrontEnd(), limits=DecodeLimits())
    shard = next(
        shard
        for shard in Plan("folder", folder_clips(tree), SHARD_CLIPS)
        if any(clip.origin.startswith("bad/") for clip in shard.clips)
    )
    told: list[int] = []
    with reporting_to(told.append):
        report = ingest_shard((job, shard))
    assert report.outcomes["bad_audio"] > 0
    assert told == [1] * len(shard.clips)


def test_a_shard_whose_worker_was_lost_after_the_commit_is_made_again_the_same(
    tmp_path: Path, tree: Path
) -> None:
    job = Job(out=tmp_path, front_end=FrontEnd(), limits=DecodeLimits())
    shard = Plan("folder", folder_clips(tree), SHARD_CLIPS)[-1]
    first = ingest_shard((job, shard)).outcomes
    content = {path.name: path.read_bytes() for path in (tmp_path / "logmel").glob("*.tar")}
    assert ingest_shard((job, shard)).outcomes == first
    assert {path.name: path.read_bytes() for path in (tmp_path / "logmel").glob("*.tar")} == content


def test_ctrl_c_is_answered_with_one_line_and_no_traceback(story: Story) -> None:
    assert story.interrupted_code == 130
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
        name: content if name.endswith(".tar") else rows_in(content)
        for name, (_, content) in files.items()
        if Path(name).parts[0] in SETS
    }


def rows_in(content: bytes) -> list[dict]:
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

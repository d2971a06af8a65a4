"""Trying again: supplements beside what is there, a spool that outlives a run, a log of runs."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio_barlow_twins.ingest.sources.clip import Clip
from audio_barlow_twins.ingest.sources.folder import folder_clips
from audio_barlow_twins.ingest.stage.ledger import base_and_number, read_ledger
from audio_barlow_twins.ingest.stage.plan import Plan, PlannedShard
from audio_barlow_twins.ingest.stage.retry import Again, plan_supplements
from audio_barlow_twins.ingest.stage.runlog import RunLog
from audio_barlow_twins.ingest.stage.spool import Spool
from audio_barlow_twins.ingest.stage.stage import Job, ingest_shard
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.decode.sound import DecodeLimits
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.shardset import open_shards
from audio_barlow_twins.shards.stored.sidecar import Row, now, read_rows
from audio_barlow_twins.shards.stored.verify import verify

AT_ONCE = Again()
Tone = Callable[..., np.ndarray]


@pytest.fixture
def root(tmp_path: Path, tone: Tone) -> Path:
    """Make a folder of ten files of which three have gone when they are wanted, and one is bad."""
    folder = tmp_path / "audio"
    folder.mkdir()
    for number in range(10):
        soundfile.write(folder / f"{number}.wav", tone(0.5), 16000)
    (folder / "7.wav").write_text("no sound")
    return folder


@pytest.fixture
def job(tmp_path: Path, root: Path) -> Job:
    """Ingest it while three files are away; they are back afterwards."""
    job = Job(out=tmp_path / "out", front_end=FrontEnd(), limits=DecodeLimits())
    plan = Plan("folder", folder_clips(root), 4)
    away = [root / "1.wav", root / "2.wav", root / "8.wav"]
    for path in away:
        path.rename(path.with_suffix(".away"))
    make(job, plan)
    for path in away:
        path.with_suffix(".away").rename(path)
    return job


def make(job: Job, plan: Plan | list[PlannedShard]) -> None:
    """Make shards in this process."""
    threads = torch.get_num_threads()
    for shard in plan:
        ingest_shard((job, shard))
    torch.set_num_threads(threads)


def supplements(job: Job, root: Path, again: Again = AT_ONCE) -> list[PlannedShard]:
    """Plan what `retry` would."""
    return plan_supplements("folder", folder_clips(root), list(job.sets()), again)


def files(folder: Path) -> dict[str, bytes]:
    """Read all files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_only_what_may_pass_is_planned_shard_by_shard(job: Job, root: Path) -> None:
    plan = supplements(job, root)
    assert [(s.name, [c.key for c in s.clips], s.attempts) for s in plan] == [
        ("shard-000000-r1", ["1", "2"], (1, 1)),
        ("shard-000002-r1", ["8"], (1,)),
    ]


def test_supplements_hold_what_came_through_and_leave_the_rest_alone(job: Job, root: Path) -> None:
    before = files(job.out)
    make(job, supplements(job, root))
    after = files(job.out)
    assert before.items() <= after.items()
    for folder in job.sets():
        assert len(open_shards(folder)) == 9
        assert [str(f) for found in verify(folder) for f in found] == []
    ledger = read_ledger(job.out / "wave")
    assert ledger.failures.keys() == {"7"}
    assert (ledger.n_planned, ledger.n_shards) == (10, 3)
    rows = read_rows(job.out / "wave" / "shard-000000-r1.parquet")
    assert [row.attempts for row in rows] == [2, 2]


def test_when_nothing_is_left_to_try_nothing_is_planned(job: Job, root: Path) -> None:
    make(job, supplements(job, root))
    assert supplements(job, root) == []


def test_a_class_that_stays_is_tried_if_it_is_named(job: Job, root: Path, tone: Tone) -> None:
    make(job, supplements(job, root))
    soundfile.write(root / "7.wav", tone(0.5), 16000)
    plan = supplements(job, root, Again(classes=frozenset({"bad_audio"})))
    assert [shard.name for shard in plan] == ["shard-000001-r1"]
    make(job, plan)
    assert read_ledger(job.out / "wave").failures == {}


def test_the_next_supplement_has_the_next_number(job: Job, root: Path) -> None:
    (root / "1.wav").unlink()
    again = Again(classes=frozenset({"bad_audio"}))
    clips = [*folder_clips(root), absent(root)]
    for number in (1, 2, 3):
        plan = plan_supplements("folder", clips, list(job.sets()), again)
        assert plan[0].name == f"shard-000000-r{number}"
        make(job, plan)
    failure = read_ledger(job.out / "wave").failures["1"]
    assert (failure.attempts, failure.shard) == (4, "shard-000000")


def absent(root: Path) -> Clip:
    """Plan a file that is no longer there."""
    path = root / "1.wav"
    return Clip(key="1", source=f"folder {root.name}", path=str(path), origin="1.wav")


def test_a_supplement_that_only_one_set_has_is_finished_first(job: Job, root: Path) -> None:
    plan = supplements(job, root)
    make(job, plan)
    for path in (job.out / "wave").glob("shard-000000-r1.*"):
        path.unlink()  # as if the run had been killed between its two commits
    assert [(s.name, s.digest) for s in supplements(job, root)] == [(plan[0].name, plan[0].digest)]
    make(job, supplements(job, root))
    assert read_ledger(job.out / "wave").failures.keys() == {"7"}


def test_another_list_is_refused(job: Job, root: Path) -> None:
    (root / "8.wav").unlink()
    with pytest.raises(UserError, match="1 failed clips that are not in this list, the first is 8"):
        supplements(job, root)


def test_another_source_is_tried_for_what_stays_in_the_first(
    job: Job, root: Path, tmp_path: Path, tone: Tone
) -> None:
    other = tmp_path / "mirror"
    other.mkdir()
    soundfile.write(other / "7.wav", tone(0.7), 16000)
    (fill,) = folder_clips(other)
    clips = [replace(c, others=(fill,) if c.key == "7" else ()) for c in folder_clips(root)]
    plan = plan_supplements("folder", clips, list(job.sets()), AT_ONCE)
    assert [(s.name, [c.path for c in s.clips]) for s in plan][1] == (
        "shard-000001-r1",
        [str(other / "7.wav")],
    )
    make(job, plan)
    (row,) = read_rows(job.out / "wave" / "shard-000001-r1.parquet")
    assert (row.status, row.source, row.origin, row.attempts) == ("ok", "folder mirror", "7.wav", 2)
    assert plan_supplements("folder", clips, list(job.sets()), AT_ONCE) == []


def test_a_class_is_due_after_its_time(job: Job) -> None:
    failure = replace(read_ledger(job.out / "wave").failures["1"], failure="network")
    for minutes, due in ((59, False), (61, True)):
        at = failure.tried_at + timedelta(minutes=minutes)
        assert failure.due(frozenset(), at) is due
    assert failure.due(frozenset({"network"}), failure.tried_at)
    assert failure.due(frozenset(), None)
    assert not replace(failure, failure="geo").due(frozenset(), None)


@pytest.mark.parametrize(
    ("name", "parts"),
    [("shard-000017", ("shard-000017", 0)), ("shard-000017-r12", ("shard-000017", 12))],
)
def test_a_supplement_names_its_shard(name: str, parts: tuple[str, int]) -> None:
    assert base_and_number(name) == parts


def row_of(key: str, **more) -> Row:
    """Make a row as the stage does."""
    return Row(
        key=key, status="ok", tried_at=now(), source="s", source_version="v", origin="o", labels=[],
        events=[{"label": "a", "start_s": 0.5, "end_s": 1.0}], start_s=0.0, end_s=1.0, **more,
    )  # fmt: skip


def test_a_spool_gives_back_what_it_was_given(tmp_path: Path) -> None:
    samples = np.arange(-5, 2000, dtype=np.int16)
    failed = replace(row_of("-b_0"), status="failed", failure="geo", message="not\nhere")
    spool = Spool(tmp_path / "spool")
    spool.put(row_of("a_1", identity="proxy x"), samples)
    spool.put(failed, None)
    again = Spool(tmp_path / "spool")
    row, found = again.get("a_1") or (None, None)
    assert row == row_of(
        "a_1",
        identity="proxy x",
    )
    np.testing.assert_array_equal(found, samples)
    assert again.get("-b_0") == (failed, None)
    assert again.get("c") is None
    again.clear()
    assert not (tmp_path / "spool").exists()


def test_a_line_behind_a_torn_one_is_whole(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.write({"shard": "a"})
    with (tmp_path / "ingest.jsonl").open("a") as file:
        file.write('{"shard": "b", "cl')
    with RunLog(tmp_path) as log:
        log.write({"shard": "c"})
        log.write({"shard": "d"})
    lines = (tmp_path / "ingest.jsonl").read_text().splitlines()
    assert [json.loads(lines[i]) for i in (0, 2, 3)] == [{"shard": s} for s in "acd"]


def test_a_log_in_a_store_keeps_what_earlier_runs_wrote(s3) -> None:
    from audio_barlow_twins.shards.base.place import place

    out = place(s3.url("log"))
    for shard in "ab":
        with RunLog(out) as log:
            log.write({"shard": shard})
    assert (out / "ingest.jsonl").read_text() == '{"shard": "a"}\n{"shard": "b"}\n'

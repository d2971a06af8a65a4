"""Log-mel derived from a wave set is what ingest writes for the same clips, to the byte."""

import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from subprocess import Popen

import numpy as np
import pytest
import soundfile
from making import failed_row, noise, python, row, write_set
from waiting import HANG_S

from audio_barlow_twins.ingest.sources.folder import folder_clips
from audio_barlow_twins.ingest.stage.plan import Plan
from audio_barlow_twins.ingest.stage.stage import Job, ingest_shard
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.progress import reporting_to
from audio_barlow_twins.shards.decode.cut import DecodeLimits
from audio_barlow_twins.shards.derive import Derivation, derive_logmel, derive_shard
from audio_barlow_twins.shards.look import Ls, Stats
from audio_barlow_twins.shards.stored.form import wave_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.shardset import open_shards
from audio_barlow_twins.shards.stored.sidecar import read_rows
from audio_barlow_twins.shards.stored.writer import shard_name, writing_shard


@pytest.fixture(scope="module")
def ingested(demo_waves: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wave and log-mel sets that ingest made of some demo sounds and a broken file."""
    root = tmp_path_factory.mktemp("derive")
    (root / "audio").mkdir()
    for name in list(demo_waves)[::40]:
        soundfile.write(root / "audio" / f"{name}.wav", demo_waves[name], 16000)
    soundfile.write(root / "audio" / "very_short.wav", demo_waves["bd_boom"][3000:3600], 16000)
    (root / "audio" / "broken.flac").write_bytes(b"fLaC, but not really")
    front_end = FrontEnd()
    job = Job(out=root, front_end=front_end, limits=DecodeLimits())
    for shard in Plan("test", folder_clips(root / "audio"), shard_clips=3):
        ingest_shard((job, shard))
    return root


def run_logmel(source: Path, out: Path) -> Popen:
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    arguments = [
        "-m",
        "audio_barlow_twins",
        "shards",
        "logmel",
        str(source),
        "--out",
        str(out),
        "--slots",
        "1",
    ]
    return python(*arguments, env=environment)


def state_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}


def test_the_command_makes_what_ingest_makes_then_nothing_and_refuses_another_front_end(
    ingested: Path, tmp_path: Path
) -> None:
    out = tmp_path / "logmel"
    first = run_logmel(ingested / "wave", out)
    output, errors = first.communicate(timeout=HANG_S)
    assert first.returncode == 0, errors
    assert "7 ok, 1 bad_audio" in output
    made = state_of(out)
    assert made.keys() == {path.name for path in (ingested / "logmel").iterdir()}
    for path in (ingested / "logmel").glob("*.tar"):
        assert made[path.name][0] == path.read_bytes()
    assert open_shards(out).fingerprint == open_shards(ingested / "logmel").fingerprint

    again = run_logmel(ingested / "wave", out)
    with pytest.raises(UserError, match="has another front-end: n_mels is 64, wanted 80"):
        list(derive_logmel(ingested / "wave", out, FrontEnd(n_mels=80)))
    output, errors = again.communicate(timeout=HANG_S)
    assert again.returncode == 0, errors
    assert "nothing to do" in output
    assert state_of(out) == made


def derivations(source: Path, out: Path, front_end: FrontEnd) -> list[Derivation]:
    return [Derivation(path, out, "plan", front_end) for path in sorted(source.glob("*.parquet"))]


def test_another_front_end_gives_what_ingest_gives_with_it(ingested: Path, tmp_path: Path) -> None:
    front_end = FrontEnd(window=512, hop=320, n_mels=20)
    job = Job(out=tmp_path, front_end=front_end, limits=DecodeLimits(), keep_wave=False)
    for shard in Plan("test", folder_clips(ingested / "audio"), shard_clips=3):
        ingest_shard((job, shard))
    outcomes = Counter[str]()
    for task in derivations(ingested / "wave", tmp_path / "derived", front_end):
        outcomes.update(derive_shard(task).outcomes)
    assert outcomes == {"ok": 7, "bad_audio": 1}
    for path in (tmp_path / "logmel").glob("*.tar"):
        assert (tmp_path / "derived" / path.name).read_bytes() == path.read_bytes()


def test_failed_rows_are_carried_over_and_a_clip_too_short_for_the_window_fails(
    ingested: Path, tmp_path: Path
) -> None:
    for task in derivations(ingested / "wave", tmp_path, FrontEnd(window=2048)):
        derive_shard(task)
    for path in sorted(tmp_path.glob("*.parquet")):
        before = {each.key: each for each in read_rows(ingested / "wave" / path.name)}
        after = {each.key: each for each in read_rows(path)}
        assert list(after) == list(before)
        for key, made in after.items():
            if key.startswith("broken"):
                assert made == before[key]
                assert made.failure == "bad_audio"
            elif key == "very_short":
                assert (made.status, made.failure, made.offset) == ("failed", "bad_audio", None)
                assert made.message == "too short: 600 samples, this log-mel needs 1025"
                assert made.labels == before[key].labels
            else:
                assert (made.status, made.end_s) == ("ok", before[key].end_s)


def test_a_shard_reports_each_of_its_clips_those_that_fail_too(
    ingested: Path, tmp_path: Path
) -> None:
    for task in derivations(ingested / "wave", tmp_path, FrontEnd(window=2048)):
        told: list[int] = []
        with reporting_to(told.append):
            assert derive_shard(task).clips == sum(told)
        assert set(told) == {1}


def test_a_truncated_wave_shard_is_not_made_into_log_mel(ingested: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(ingested / "wave", tmp_path / "wave"))
    last = read_rows(source / "shard-000000.parquet")[-1]
    assert last.offset is not None
    os.truncate(source / "shard-000000.tar", last.offset + 2000)
    (task, *_) = derivations(source, tmp_path / "logmel", FrontEnd())
    with pytest.raises(UserError, match=f"shard-000000.tar ends inside clip {last.key}"):
        derive_shard(task)
    assert not list((tmp_path / "logmel").iterdir())


def test_what_is_no_wave_set_is_refused(ingested: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds logmel clips, wanted wave"):
        list(derive_logmel(ingested / "logmel", tmp_path / "out", FrontEnd()))
    with pytest.raises(UserError, match="does not exist"):
        list(derive_logmel(tmp_path / "missing", tmp_path / "out", FrontEnd()))
    assert not (tmp_path / "out").exists()


def test_a_wave_set_is_not_overwritten_by_its_log_mel(ingested: Path) -> None:
    before = state_of(ingested / "wave")
    with pytest.raises(UserError, match="holds wave clips, wanted logmel"):
        list(derive_logmel(ingested / "wave", ingested / "wave", FrontEnd()))
    assert state_of(ingested / "wave") == before


def test_other_clips_under_the_same_name_are_refused(ingested: Path, tmp_path: Path) -> None:
    for task in derivations(ingested / "wave", tmp_path / "logmel", FrontEnd()):
        derive_shard(task)  # with the plan "plan"
    with pytest.raises(UserError, match="made from another list of clips"):
        list(derive_logmel(ingested / "wave", tmp_path / "logmel", FrontEnd()))


def test_a_finished_set_needs_no_cluster_and_loses_its_scratch(
    ingested: Path, tmp_path: Path
) -> None:
    form = wave_form()
    source = write_set(tmp_path / "wave", form, [{"a": noise(form, 900, 0)}])
    for task in derivations(source, tmp_path / "logmel", FrontEnd()):
        derive_shard(task)
    (tmp_path / "logmel" / ".shard-000000.tar.0.tmp").write_text("left behind")
    assert list(derive_logmel(source, tmp_path / "logmel", FrontEnd())) == []
    assert len(list((tmp_path / "logmel").iterdir())) == 2


def test_ls_and_stats_tell_clips_hours_and_failures(
    ingested: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Ls(folder=str(ingested / "logmel")).run()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [f"shard-00000{i}" for i in range(3)]
    Stats(folder=str(ingested / "logmel")).run()
    text = capsys.readouterr().out
    assert "clips        7 of 8 planned" in text
    assert "failed       bad_audio: 1" in text
    assert "broken.flac: ffmpeg cannot decode it" in text
    assert open_shards(ingested / "logmel").fingerprint in text


def test_stats_count_a_clip_once_and_forget_a_failure_that_a_supplement_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    form = wave_form()
    write_set(tmp_path, form, [{"a": noise(form, 9, 0), "b": None, "c": None}])
    with writing_shard(tmp_path, shard_name(0, 1), form, "again") as writer:
        writer.add(row("b"), noise(form, 9, 1))
        writer.fail(replace(failed_row("c"), failure="network", message="nobody answers"))
    Stats(folder=str(tmp_path)).run()
    text = capsys.readouterr().out
    assert "clips        2 of 3 planned" in text
    assert "failed       network: 1\n             c.flac: nobody answers" in text
    assert "bad_audio" not in text

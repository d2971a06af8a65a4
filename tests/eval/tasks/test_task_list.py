import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from archive_task import RATE, write_archive_task

from audio_barlow_twins.eval.tasks.check import check_task
from audio_barlow_twins.eval.tasks.listing import Tasks, problem_lines
from audio_barlow_twins.eval.tasks.metadata import TaskError
from audio_barlow_twins.eval.tasks.suite import PAPER_TASKS, how_to_get, paper_task
from audio_barlow_twins.shards.base.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_archive_task(tmp_path / "tasks" / "tones-v1-full")


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def sound(folder: Path, name: str = "train0.wav") -> Path:
    return folder / str(RATE) / "train" / name


def found(folder: Path, decode: bool = False) -> list[str]:
    """Return what is wrong, with paths relative to the folder."""
    problems = check_task(folder, decode).problems
    assert all(problem.what.startswith(f"{folder}") for problem in problems)
    return [problem.what.removeprefix(f"{folder}").removeprefix("/") for problem in problems]


def test_a_task_that_is_as_it_must_be_has_no_problem(folder: Path) -> None:
    told: list[int] = []
    task = check_task(folder, True, told.append)
    assert task.problems == ()
    assert (task.name, task.rates, task.n_clips) == ("tones-v1-full", (RATE,), 9)
    assert task.hours == pytest.approx(9 * 0.5 / 3600)
    assert sum(told) == 9


def no_listing(folder: Path) -> str:
    (folder / "valid.json").unlink()
    return "valid.json: No such file or directory; is this a HEAR task folder?"


def no_json(folder: Path) -> str:
    (folder / "valid.json").write_text("{")
    return "valid.json: not JSON"


def empty_listing(folder: Path) -> str:
    (folder / "valid.json").write_text("{}")
    for path in (folder / "48000" / "valid").iterdir():
        path.unlink()
    return "valid.json: lists no clips"


def no_vocabulary(folder: Path) -> str:
    (folder / "labelvocabulary.csv").unlink()
    return "labelvocabulary.csv: missing"


def no_metadata(folder: Path) -> str:
    (folder / "task_metadata.json").unlink()
    return "task_metadata.json: No such file"


def unknown_score(folder: Path) -> str:
    edit(folder / "task_metadata.json", evaluation=["beauty"])
    return "task_metadata.json: score 'beauty'"


def unknown_label(folder: Path) -> str:
    edit(folder / "train.json", **{"train1.wav": ["horn"]})
    return "train.json: train1.wav has label 'horn', not in the vocabulary"


def two_labels(folder: Path) -> str:
    edit(folder / "train.json", **{"train1.wav": ["tone", "noise"]})
    return "train.json: train1.wav has 2 labels; multiclass wants exactly one"


def label_without_list(folder: Path) -> str:
    edit(folder / "train.json", **{"train1.wav": "tone"})
    return "train.json: labels of train1.wav are 'tone'; wanted a list"


def missing_clip(folder: Path) -> str:
    sound(folder).unlink()
    return "48000/train/train0.wav: missing, though train.json lists it"


def missing_split(folder: Path) -> str:
    shutil.rmtree(folder / "48000" / "train")
    return "48000/train: no such folder; 3 clips are missing"


def no_rate(folder: Path) -> str:
    shutil.rmtree(folder / "48000")
    return ": holds no folder of clips"


def unlisted_clip(folder: Path) -> str:
    shutil.copy(sound(folder), sound(folder, "other.wav"))
    return "48000/train/other.wav: not in train.json, so it is not used"


def wrong_rate(folder: Path) -> str:
    soundfile.write(sound(folder), np.zeros(22050), 44100)
    return "48000/train/train0.wav: is at 44100 Hz, though its folder says 48000 Hz"


def no_sound(folder: Path) -> str:
    sound(folder).write_bytes(b"not a sound")
    return "48000/train/train0.wav: cannot be read as audio"


def no_byte(folder: Path) -> str:
    sound(folder).write_bytes(b"")
    return "48000/train/train0.wav: cannot be read as audio"


def no_samples(folder: Path) -> str:
    soundfile.write(sound(folder), np.zeros(0), RATE)
    return "48000/train/train0.wav: holds no samples"


def too_short(folder: Path) -> str:
    soundfile.write(sound(folder), np.zeros(RATE // 4), RATE)
    return "48000/train/train0.wav: lasts 0.25 s; the task says 0.5 s"


def too_long(folder: Path) -> str:
    soundfile.write(sound(folder), np.zeros(RATE), RATE)
    return "48000/train/train0.wav: lasts 1.00 s; the task says 0.5 s"


def stereo(folder: Path) -> str:
    soundfile.write(sound(folder), np.zeros((RATE // 2, 2)), RATE)
    return "48000/train/train0.wav: has 2 channels, which are averaged"


@pytest.mark.parametrize(
    "spoil",
    [
        no_listing, no_json, empty_listing, no_vocabulary, no_metadata, unknown_score,
        unknown_label, two_labels, label_without_list, missing_clip, missing_split, no_rate,
        unlisted_clip, wrong_rate, no_sound, no_byte, no_samples, too_short, too_long, stereo,
    ],
)  # fmt: skip
def test_each_problem_is_found_and_named_alone(folder: Path, spoil: Callable[[Path], str]) -> None:
    wanted = spoil(folder)
    (line,) = found(folder)
    assert line.startswith(wanted)


def test_problems_are_found_beside_each_other(folder: Path) -> None:
    wanted = [spoil(folder) for spoil in (unknown_label, missing_split, no_json)]
    edit(folder / "test.json", **{"ghost.wav": ["tone"], "test0.wav": []})
    soundfile.write(folder / "48000" / "test" / "test1.wav", np.zeros(9), 9)
    lines = found(folder)
    assert len(lines) == 7
    for start in (
        *wanted, "test.json: test0.wav has 0 labels", "48000/test/ghost.wav: missing",
        "48000/test/test1.wav: is at 9 Hz", "48000/test/test1.wav: lasts 1.00 s",
    ):  # fmt: skip
        assert any(line.startswith(start) for line in lines), start


def test_both_metadata_and_vocabulary_are_looked_at(folder: Path) -> None:
    unknown_score(folder)
    (folder / "labelvocabulary.csv").write_text("idx,label\n0,noise\n2,tone\n")
    assert [line.split(":")[0] for line in found(folder)] == [
        "labelvocabulary.csv", "task_metadata.json",
    ]  # fmt: skip


def test_a_clip_that_was_cut_off_is_found_in_its_header(folder: Path) -> None:
    size = sound(folder).stat().st_size
    os.truncate(sound(folder), size - 480)
    (line,) = found(folder)
    assert "is cut off: by its header, 480 bytes are missing" in line


def test_durations_may_differ_where_the_task_says_none(folder: Path) -> None:
    edit(folder / "task_metadata.json", sample_duration=None)
    too_long(folder)
    assert found(folder) == []


def test_damage_behind_the_header_is_found_by_decoding(folder: Path) -> None:
    wave = np.zeros(RATE // 2, dtype=np.float32)
    wave[7] = np.nan
    soundfile.write(sound(folder), wave, RATE, "FLOAT")
    assert found(folder) == []
    (line,) = found(folder, decode=True)
    assert line.startswith("48000/train/train0.wav: holds NaN or infinite samples")


def test_every_rate_is_looked_at(folder: Path) -> None:
    shutil.copytree(folder / "48000", folder / "16000")
    missing_clip(folder)
    task = check_task(folder, False)
    assert task.rates == (16000, 48000)
    *others, last = (problem.what for problem in task.problems)
    assert len(others) == 9
    assert all("is at 48000 Hz" in problem for problem in others)
    assert "train0.wav: missing" in last


def test_a_folder_that_only_has_the_name_of_a_paper_task_is_told_how_it_differs(
    folder: Path,
) -> None:
    other = folder.rename(folder.with_name("esc50-v2.0.0-full"))
    lines = [problem.what for problem in check_task(other, False).problems]
    assert len(lines) == 5
    where = f"{other / 'task_metadata.json'}: not the paper's task: "
    assert f"{where}sample_duration is 0.5, not 5" in lines
    assert f"{where}2 labels, not 50" in lines


def run(capsys: pytest.CaptureFixture[str], **options: object) -> tuple[int, list[str]]:
    with pytest.raises(SystemExit) as stopped:
        Tasks(**options).run()  # type: ignore[arg-type]
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, capsys.readouterr().out.splitlines()


def test_missing_tasks_are_listed_and_no_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = run(capsys, tasks_dir=folder.parent)
    assert code == 0
    assert lines[0].split() == ["task", "folder", "clips", "hours", "rates", "state"]
    for line, task in zip(lines[1:19], PAPER_TASKS, strict=True):
        assert line.startswith(task.title)
        assert line.split()[-5:] == [task.folder, "-", "-", "-", "missing"]
    assert lines[19].split() == ["tones-v1-full", "9", "0.00", "48000", "ok"]
    assert lines[20].startswith("To get what is missing")


def test_problems_are_an_exit_code_and_warnings_are_none(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = unlisted_clip(folder)
    code, lines = run(capsys, tasks_dir=folder.parent)
    assert code == 0
    assert lines[19].endswith("1 warning")
    assert f"warning: {folder}/{where}" in lines
    missing_clip(folder)
    two_labels(folder)
    code, lines = run(capsys, tasks_dir=folder.parent)
    assert code == 1
    assert lines[19].endswith("2 problems, 1 warning")


def test_of_many_problems_the_grave_ones_are_printed_and_the_others_counted(
    folder: Path,
) -> None:
    for i in range(4):
        shutil.copy(sound(folder), sound(folder, f"other{i}.wav"))
    stereo(folder)
    soundfile.write(sound(folder, "train1.wav"), np.zeros(RATE), RATE)
    first, second, rest = problem_lines(check_task(folder, False), 2)
    assert first.startswith("problem:")
    assert "train1.wav: lasts 1.00 s" in first
    assert second.startswith("warning:")
    assert rest == "... and 4 more in tones-v1-full; --most 6 shows all"


def test_a_paper_task_without_metadata_is_a_problem_and_other_folders_are_none(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.parent / "maestro-v3.0.0-5h").mkdir()
    (folder.parent / "notes").mkdir()
    shutil.copytree(folder, folder.parent / ".hidden")
    code, lines = run(capsys, tasks_dir=folder.parent)
    assert code == 1
    assert lines[18].startswith("MAESTRO 5h")
    assert lines[18].endswith("3 problems")
    assert not any("notes" in line or "hidden" in line for line in lines)


def test_folders_that_cannot_be_listed_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no such folder; make it"):
        Tasks(tasks_dir=tmp_path / "nothing").run()
    with pytest.raises(TaskError, match="is itself a task folder"):
        Tasks(tasks_dir=folder).run()
    with pytest.raises(UserError, match="--most is -1"):
        Tasks(tasks_dir=folder, most=-1)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("above", ["tasks", "hear-2021.0.6/tasks"])
def test_the_command_for_missing_tasks_unpacks_archives_of_both_forms(
    folder: Path, tmp_path: Path, above: str
) -> None:
    source = tmp_path / "archive"
    shutil.copytree(folder, source / above / "esc50-v2.0.0-full")
    archive = tmp_path / "hear2021-esc50-v2.0.0-full-48000.tar.gz"
    subprocess.run(["tar", "czf", archive, "-C", source, above.split("/")[0]], check=True)
    into = tmp_path / "my tasks"
    into.mkdir()
    task = paper_task("esc50-v2.0.0-full")
    assert task is not None
    lines = how_to_get([task], into)
    script = "\n".join(line for line in lines if line.startswith("  "))
    local = script.replace("https://zenodo.org/records/6332517/files", f"file://{tmp_path}")
    assert local != script
    subprocess.run(["bash", "-ec", local], check=True, capture_output=True)
    assert [path.name for path in into.iterdir()] == ["esc50-v2.0.0-full"]
    assert check_task(into / "esc50-v2.0.0-full", False).n_clips == 9


def test_nothing_is_said_about_getting_tasks_when_all_are_there(tmp_path: Path) -> None:
    assert how_to_get([], tmp_path) == []

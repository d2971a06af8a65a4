"""`abt eval hear` with real Ray: killed and gone on with, rows added, failures named."""

import csv
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from process_tree import descendants
from quiet_cluster import quiet_cluster
from toy_task import write_toy_task
from waiting import HANG_S, wait_until

from audio_barlow_twins.eval.embed.tasks import embed_task
from audio_barlow_twins.eval.probe.evaluate import evaluate
from audio_barlow_twins.eval.probe.recipe import ROBUST
from audio_barlow_twins.eval.run.part import Job, JobReport, run_job
from audio_barlow_twins.eval.run.runner import Hear, Todo, baseline, plan, systems_of
from audio_barlow_twins.eval.run.scoring import Scores
from audio_barlow_twins.eval.systems.system import LoadedSystem
from audio_barlow_twins.eval.tasks.task import read_task
from audio_barlow_twins.model.embedder import Embedder
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.progress import reporting_to

ROOT = Path(__file__).parents[3]
TASKS = ("toy-v1-full", "toys-v2-full")
ROWS = ("checkpoint", "random init", "log-mel mean+std")
FOREIGN = """
import torch

class Model(torch.nn.Module):
    sample_rate = 8000
    scene_embedding_size = timestamp_embedding_size = 3

def load_model(model_file_path="", scale=1.0):
    model = Model()
    model.scale = scale
    return model

def get_scene_embeddings(audio, model):
    assert audio.abs().max() <= 1.5
    spread = [audio.std(1), audio.diff(dim=1).std(1), audio.abs().mean(1)]
    return model.scale * torch.stack(spread, 1)

def get_timestamp_embeddings(audio, model):
    raise NotImplementedError
"""


def start(*arguments: str | Path, path: Path | None = None) -> "subprocess.Popen[str]":
    """Start the command."""
    places = [str(ROOT), *([str(path)] if path else [])]
    variables = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, "-m", "audio_barlow_twins", "eval", "hear", *map(str, arguments)],
        env=os.environ | variables | {"PYTHONPATH": os.pathsep.join(places)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait for its end; return code, stdout and stderr."""
    out, error = process.communicate(timeout=HANG_S)
    return process.returncode, out, error


def times(folder: Path, pattern: str) -> dict[Path, int]:
    """Tell when files were written, ns."""
    return {path: path.stat().st_mtime_ns for path in folder.glob(pattern)}


def wait_for_files(
    process: "subprocess.Popen[str]", folder: Path, pattern: str, count: int
) -> None:
    """Poll until there are some files; they must come while the command runs."""
    wait_until(lambda: len(list(folder.glob(pattern))) >= count, process)


@dataclass
class Story:
    """An evaluation that was killed when it had some scores, run again, and once more."""

    folder: Path
    scored: dict[Path, int] = field(default_factory=dict)
    embedded: dict[Path, int] = field(default_factory=dict)
    again: tuple[int, str, str] = (0, "", "")
    after: dict[Path, int] = field(default_factory=dict)
    idle: tuple[int, str, str] = (0, "", "")


@pytest.fixture(scope="module")
def arguments(
    tmp_path_factory: pytest.TempPathFactory,
    demo_waves: dict[str, np.ndarray],
    checkpoint_path: Path,
) -> list[str | Path]:
    """Write two tasks, and say where all is to go."""
    folder = tmp_path_factory.mktemp("hear")
    for task in TASKS:
        write_toy_task(folder / "tasks" / task, demo_waves)
    places = {"--tasks-dir": "tasks", "--out": "out", "--cache": "cache"}
    named = [word for option, name in places.items() for word in (option, folder / name)]
    return [
        *("--checkpoint", checkpoint_path, *named),
        *("--protocol", "robust", "--slots", "1", "--device", "cpu"),
    ]


@pytest.fixture(scope="module")
def story(arguments: list[str | Path]) -> Story:
    """Live through it."""
    told = Story(Path(arguments[5]).parent)
    process = start(*arguments)
    wait_for_files(process, told.folder, "out/scores/*/*/*.json", 2)
    for pid in (process.pid, *descendants(process.pid)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()
    told.scored = times(told.folder, "out/scores/*/*/*.json")
    told.embedded = times(told.folder, "cache/embeddings/*/*/*.npy")
    told.again = finish(start(*arguments))
    told.after = times(told.folder, "out/scores/*/*/*.json")
    told.idle = finish(start(*arguments))
    return told


class TestStory:
    """What holds after the kill and the second command."""

    def test_the_kill_left_some_scores_and_much_to_do(self, story: Story) -> None:
        assert 2 <= len(story.scored) < 18

    def test_the_second_command_does_just_what_is_missing(self, story: Story) -> None:
        code, _, error = story.again
        assert code == 0, error
        assert f"18 scores planned, {18 - len(story.scored)} to do" in error
        assert story.scored.items() <= story.after.items()
        assert len(story.after) == 18

    def test_what_was_embedded_was_not_embedded_again(self, story: Story) -> None:
        assert story.embedded
        assert story.embedded.items() <= times(story.folder, "cache/embeddings/*/*/*.npy").items()

    def test_the_third_command_finds_nothing_to_do_and_says_the_same(self, story: Story) -> None:
        code, out, error = story.idle
        assert code == 0, error
        assert "18 scores planned, 0 to do" in error
        assert out == story.again[1]
        assert times(story.folder, "out/scores/*/*/*.json") == story.after

    def test_the_scores_are_those_of_the_model(self, story: Story, hear_model: Embedder) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        task = read_task(story.folder / "tasks" / TASKS[0], 16000)
        splits = embed_task(task, LoadedSystem.of("checkpoint", hear_model))
        expected = evaluate(task.metadata, splits, ROBUST)
        torch.set_num_threads(threads)
        content = json.loads((story.folder / "out" / "scores.json").read_text())
        found = content["tasks"][TASKS[0]]["systems"]["checkpoint"]
        assert found["mean"] == pytest.approx(expected.mean, abs=1e-9)
        assert len(found["runs"]) == 3

    def test_the_report_has_all_systems_and_tasks(self, story: Story) -> None:
        rows = list(csv.DictReader((story.folder / "out" / "scores.csv").read_text().splitlines()))
        ours = {(row["system"], row["task"]) for row in rows if row["task"] in TASKS}
        assert ours == {(row, task) for row in ROWS for task in TASKS}
        assert all(row in (story.folder / "out" / "report.md").read_text() for row in ROWS)
        assert "<svg" in (story.folder / "out" / "report.html").read_text()

    @pytest.mark.slow
    def test_another_model_adds_a_row(
        self, story: Story, arguments: list[str | Path], tmp_path: Path
    ) -> None:
        (tmp_path / "foreign.py").write_text(FOREIGN)
        foreign = ["--module", "foreign", "--options", "scale=2"]
        code, out, error = finish(start(*arguments[2:], *foreign, path=tmp_path))
        assert code == 0, error
        assert "6 scores planned, 6 to do" in error
        rows = [line.split("  ")[0] for line in out.splitlines()[3:7]]
        assert rows == ["foreign", "checkpoint", "log-mel mean+std", "random init"]
        assert story.after.items() <= times(story.folder, "out/scores/*/*/*.json").items()
        resampled = list((story.folder / "cache" / "resampled").rglob("*.wav"))
        assert {soundfile.info(path).samplerate for path in resampled} == {8000}


@pytest.mark.slow
def test_a_node_of_a_cluster_may_be_lost(arguments: list[str | Path], tmp_path: Path) -> None:
    cluster = quiet_cluster(0)
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        options = ["--out", tmp_path / "out", "--cache", tmp_path / "cache", "--baselines"]
        options += ["log-mel", "--protocol", "heareval"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_ADDRESS", cluster.address)
            process = start(*arguments, *options)
        wait_for_files(process, tmp_path / "out", "scores/*/*/*.json", 1)
        cluster.remove_node(nodes[1], allow_graceful=False)
        code, out, error = finish(process)
    finally:
        cluster.shutdown()
    assert code == 0, error
    assert "4 scores planned, 4 to do" in error
    assert len(list(tmp_path.glob("out/scores/*/*/*.json"))) == 4
    assert "report   " in out


@pytest.fixture
def config(tmp_path: Path, demo_waves: dict[str, np.ndarray], checkpoint_path: Path) -> Hear:
    write_toy_task(tmp_path / "tasks" / TASKS[0], demo_waves)
    return Hear(
        checkpoint=checkpoint_path,
        tasks_dir=tmp_path / "tasks",
        out=tmp_path / "out",
        cache=tmp_path / "cache",
    )


def test_a_task_that_cannot_be_used_is_named_and_the_others_are_scored(
    config: Hear, demo_waves: dict[str, np.ndarray]
) -> None:
    broken = write_toy_task(config.tasks_dir / TASKS[1], demo_waves)
    clip = min((broken / "16000" / "fold01").iterdir())
    soundfile.write(clip, np.zeros(8000), 8000)
    code, out, error = finish(
        start(
            *("--checkpoint", config.checkpoint or "", "--tasks-dir", config.tasks_dir),
            *("--out", config.folder, "--cache", config.cache, "--baselines", "log-mel"),
        )
    )
    assert code == 1, error
    failures = [line for line in out.splitlines() if line.startswith("failed ")]
    assert [line.split(": ")[0] for line in sorted(failures)] == [
        f"failed   {row} on {TASKS[1]}" for row in ("checkpoint", "log-mel mean+std")
    ]
    assert all(clip.name in line and "8000 Hz" in line for line in failures)
    (column,) = json.loads((config.folder / "scores.json").read_text())["tasks"]
    assert column == TASKS[0]


def test_probes_follow_their_embedding(config: Hear) -> None:
    folder = config.tasks_dir.absolute() / TASKS[0]
    planned = plan(config, systems_of(config), {folder: read_task(folder, 16000)})
    assert [each.system.name for each in planned] == list(ROWS)
    todo = Todo.of(planned, ROBUST)
    assert (todo.planned, len(todo.jobs)) == (9, 9)
    embedded = Job(planned=planned[0])
    probes = todo.after(JobReport(job=embedded, clips=18))
    assert [(job.planned, job.protocol and job.protocol.seeds) for job in probes] == [
        (planned[0], (seed,)) for seed in (0, 1, 2)
    ]
    assert not todo.after(JobReport(job=embedded, clips=18, failure="no"))
    assert not todo.after(JobReport(job=probes[0], clips=18))


def test_embedding_reports_every_clip_whether_it_is_embedded_or_found(config: Hear) -> None:
    folder = config.tasks_dir.absolute() / TASKS[0]
    planned, *_ = plan(config, systems_of(config), {folder: read_task(folder, 16000)})
    threads = torch.get_num_threads()
    for _ in range(2):
        told: list[int] = []
        with reporting_to(told.append):
            report = run_job(Job(planned=planned))
        assert (report.failure, sum(told)) == ("", planned.n_clips)
    torch.set_num_threads(threads)


def test_scores_are_found_only_of_the_same_model_task_and_protocol(config: Hear) -> None:
    folder = config.tasks_dir.absolute() / TASKS[0]
    task = read_task(folder, 16000)
    (job, *_) = Todo.of(plan(config, systems_of(config), {folder: task}), ROBUST).probes.popitem()[
        1
    ]
    splits = embed_task(task, job.planned.system.load("cpu"))
    result = evaluate(task.metadata, splits, job.protocol or ROBUST)
    scores = Scores(system="", inputs=job.inputs, n_clips=18, n_folds=3, chance=0.5, result=result)
    scores.write(job.path)
    assert job.done
    listing = folder / "fold00.json"
    labels = json.loads(listing.read_text())
    name = next(iter(labels))
    labels[name] = ["snare" if labels[name] == ["kick"] else "kick"]
    listing.write_text(json.dumps(labels))
    changed = plan(config, systems_of(config), {folder: read_task(folder, 16000)})
    assert not any(job.done for jobs in Todo.of(changed, ROBUST).probes.values() for job in jobs)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("best", "no baseline is called 'best'"),
        ("byol-a", "byol-a=PATH"),
        ("byol-a-v1-512", "version 1 and width 512: byol-a-v1-512=PATH"),
        ("byol-a-v2-512=f.pth", "no baseline is called 'byol-a-v2-512'"),
    ],
)
def test_baselines_that_cannot_be_had_are_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        baseline(text, "")


def test_two_systems_of_one_name_are_refused(config: Hear) -> None:
    twice = Hear(**{**vars(config), "name": "random init"})
    with pytest.raises(UserError, match="name yours with --name"):
        systems_of(twice)


def test_several_files_of_byol_a_have_rows_of_their_own(config: Hear) -> None:
    files = [*(f"v1-{width}" for width in (512, 1024, 2048)), "v2-1024", "v2-2048"]
    names = ("byol-a=any.pth", *(f"byol-a-{file}={file}.pth" for file in files))
    systems = systems_of(Hear(**{**vars(config), "baselines": names}))
    assert [system.name for system in systems[1:]] == [
        "BYOL-A", "BYOL-A v1, 512-d", "BYOL-A v1, 1024-d", "BYOL-A v1, 2048-d",
        "BYOL-A v2, 2048-d", "BYOL-A v2, 3072-d",
    ]  # fmt: skip


def test_weights_of_a_baseline_are_found_from_any_folder(
    config: Hear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert baseline("byol-a=weights.pth", "mine.pt").model == str(tmp_path / "weights.pth")
    assert baseline("random", "mine.pt").model == "mine.pt"
    assert baseline("crepe", "mine.pt").model == ""

"""Ablations: their settings, their report by hand, and one that is killed and goes on."""

import csv
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from process_tree import descendants
from small_encoder import SMALL
from toy_task import write_toy_task
from waiting import wait_until

from audio_barlow_twins.model.checkpoint import load_checkpoint
from audio_barlow_twins.model.encoders import build_encoder
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.train.ablation.ablation import ablate, keep_plan, last_epoch, plan_jobs
from audio_barlow_twins.train.ablation.config import Ablation
from audio_barlow_twins.train.ablation.grids import FIGURE_2, PAIRS, cells_of
from audio_barlow_twins.train.ablation.report import Result, panels_of, published, table_of
from audio_barlow_twins.train.ablation.run_one import Job, run_job
from audio_barlow_twins.train.config import OptimiserConfig, TrainConfig
from audio_barlow_twins.train.presets import PRESETS
from audio_barlow_twins.train.run.folder import read_metrics
from audio_barlow_twins.train.views.logmel import Noise

ROOT = Path(__file__).parents[3]
TASK = "toy-v1-full"
CELLS = ("noise", "rrc", "random")


@pytest.fixture
def config(config: TrainConfig, tmp_path: Path, demo_waves: dict[str, np.ndarray]) -> TrainConfig:
    """Describe a smaller run, with a task beside it."""
    write_toy_task(tmp_path / "tasks" / TASK, demo_waves)
    return replace(config, epochs=0.4)


@pytest.fixture
def ablation(config: TrainConfig, tmp_path: Path) -> Ablation:
    return Ablation(
        base=config, tasks_dir=tmp_path / "tasks", out=tmp_path / "out", cell=CELLS, slots=1
    )


def grid(name: str, preset: str = "audiontt-fsd50k-ablation") -> dict[str, TrainConfig]:
    """Return the config of every cell that is done if none is named."""
    base = PRESETS[preset][1]
    config = Ablation(base=base, tasks_dir=Path("tasks"), grid=name)  # type: ignore[arg-type]
    return {cell.name: cell.config for cell in cells_of(config)}


def test_the_views_are_those_of_figure_2_and_ppn_is_a_normalisation() -> None:
    cells = grid("views")
    assert list(cells) == [
        "mixup+rrc+rlf+ppn", "mixup+rrc+rlf+noise", "mixup+rrc+rlf", "noise+rrc+rlf",
        "rrc", "mixup", "noise", "rlf", "random",
    ]  # fmt: skip
    for name, config in cells.items():
        assert set(config.views) == set(name.split("+")) - {"ppn", "random"}
        assert config.normalise == ("ppn-per-view" if "ppn" in name else "set")


def test_every_published_score_belongs_to_a_setting() -> None:
    assert {cell for cell, _ in published()} == set(FIGURE_2 | PAIRS)


def test_published_scores_have_the_paper_s_average() -> None:
    # 68.7 % for its choice of views, over the five tasks of which the authors published scores.
    scores = [score for (cell, _), score in published().items() if cell == "mixup+rrc+rlf"]
    assert len(scores) == 5
    assert 100 * np.mean(scores) == pytest.approx(68.7, abs=0.05)


def test_a_pair_is_done_if_it_is_named(ablation: Ablation) -> None:
    cells = cells_of(replace(ablation, cell=("rrc+rlf", "random")))
    assert [(cell.name, cell.trained) for cell in cells] == [("random", False), ("rrc+rlf", True)]
    with pytest.raises(UserError, match="grid views has no cell 'batch-64'"):
        cells_of(replace(ablation, cell=("batch-64",)))


def test_any_combination_of_views_can_be_named(ablation: Ablation) -> None:
    (cell,) = cells_of(replace(ablation, cell=("time-stretch+pitch-shift",)))
    assert cell.config.views == ("time-stretch", "pitch-shift")
    with pytest.raises(UserError, match=r"no cell 'rrc.shout'"):
        cells_of(replace(ablation, cell=("rrc+shout",)))


@pytest.mark.parametrize("name", ["batch", "crop", "epochs", "lambda", "projector"])
def test_other_grids_change_one_number_at_a_time_and_hold_the_base(name: str) -> None:
    base = PRESETS["audiontt-fsd50k-ablation"][1]
    changed = []
    for config in grid(name).values():
        old, new = asdict(base), asdict(config)
        changed.append([field for field in old if old[field] != new[field]])
    assert sorted(map(len, changed)) == [0] + [1] * (len(changed) - 1)
    fields = {field for fields in changed for field in fields}
    assert all(field.removesuffix("_").startswith(name) for field in fields)


def test_sizes_of_the_projector() -> None:
    cells = grid("projector").values()
    assert {c.projector_layers for c in cells} == {0, 1, 2, 3}
    assert {c.projector_hidden for c in cells} == {1024, 2048, 4096, 8192, 16384}
    assert {c.projector_out for c in cells} == {64, 256, 1024, 4096}


def result(cell: str, seed: int, task: str, value: float) -> Result:
    return Result(cell=cell, seed=seed, task=task, score="top1_acc", value=value)


def test_a_panel_a_task_and_their_mean_over_the_runs_that_have_all_scores() -> None:
    results = [
        result("rrc", 0, "a", 0.5), result("rrc", 1, "a", 0.7),
        result("rrc", 0, "b", 0.1), result("rrc", 1, "b", 0.2),
        result("rlf", 0, "a", 0.4),
    ]  # fmt: skip
    theirs = {("rrc", "a"): 0.6, ("rrc", "b"): 0.3, ("rlf", "a"): 0.35}
    average, a, b = panels_of(results, theirs, ["rrc", "rlf"])
    assert [panel.title for panel in (average, a, b)] == ["mean of the 2 tasks", "a", "b"]
    # By hand: (50 + 70) / 2, and half their difference times the root of 2.
    assert a.ours_of("rrc") == pytest.approx((60, 10 * 2**0.5))
    assert average.ours_of("rrc") == pytest.approx((37.5, 7.5 * 2**0.5))
    assert a.ours_of("rlf") == pytest.approx((40, np.nan), nan_ok=True)
    assert np.isnan(average.ours_of("rlf")[0])
    assert a.published == pytest.approx({"rrc": 60, "rlf": 35})
    assert average.published == pytest.approx({"rrc": 45})


def test_the_table_has_a_column_for_published_scores_where_there_are_some() -> None:
    results = [result("rrc", 0, "a", 0.5), result("rrc", 1, "a", 0.7)]
    table = table_of(panels_of(results, {("rlf", "a"): 0.35}, ["rrc", "rlf"]), ["rrc", "rlf"])
    assert [[cell.strip() for cell in row.strip("|").split("|")] for row in table] == [
        ["setting", "a", "published"],
        ["-------", "----------:", "--------:"],
        ["rrc", "60.0 ± 14.1", "-"],
        ["rlf", "-", "35.0"],
    ]
    assert len({len(row) for row in table}) == 1


def test_a_folder_keeps_to_what_it_was_begun_with(ablation: Ablation) -> None:
    keep_plan(ablation)
    keep_plan(replace(ablation, seeds=(0, 1), cell=("rlf",)))
    other = replace(ablation, base=replace(ablation.base, batch=4))
    with pytest.raises(UserError, match=r"out was begun with batch 8, now it is 4; .* --out"):
        keep_plan(other)
    ranges = ablation.base.ranges | {"noise": Noise(deviation=0.1)}
    other = replace(ablation, base=replace(ablation.base, ranges=ranges))
    with pytest.raises(UserError, match=r"was begun with ranges.noise \{.*0.2\}, now it is"):
        keep_plan(other)


def test_a_folder_of_the_version_before_views_had_names_goes_on(ablation: Ablation) -> None:
    keep_plan(ablation)
    path = ablation.folder / "ablation.json"
    kept = json.loads(path.read_text())
    ranges = {name.replace("-", "_"): options for name, options in kept["ranges"].items()}
    ranges["bank"] = ranges["mixup"].pop("memory")
    ranges["wave_bank"] = ranges["background"].pop("memory")
    path.write_text(json.dumps(kept | {"ranges": ranges}))
    keep_plan(ablation)
    ranges["bank"] += 1
    path.write_text(json.dumps(kept | {"ranges": ranges}))
    with pytest.raises(UserError, match=r"was begun with ranges.mixup \{.*13\}"):
        keep_plan(ablation)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"seeds": ()}, "at least one"),
        ({"seeds": (1, 1)}, "each once"),
        ({"cpus": 2, "slots": 1}, "give a run 1 to all of them"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    ablation: Ablation, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        replace(ablation, **wrong)
    with pytest.raises(UserError, match="an ablation takes --seeds"):
        replace(ablation, base=replace(ablation.base, seed=3))


def only_job(ablation: Ablation, cell: str) -> Job:
    """Plan one cell."""
    (job,) = plan_jobs(replace(ablation, cell=(cell,)))
    return job


def test_an_untrained_encoder_is_the_one_that_its_seed_draws(
    ablation: Ablation, one_thread: None
) -> None:
    job = only_job(replace(ablation, seeds=(3,)), "random")
    assert run_job((job, 0)).failure == ""
    drawn = load_checkpoint(job.config.run / "encoder.pt")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        expected = build_encoder("audiontt", drawn.sizes).state_dict()
    assert drawn.step == 0
    assert all(torch.equal(drawn.state[name], value) for name, value in expected.items())


def test_the_last_whole_line_tells_how_far_a_run_is(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    assert last_epoch(metrics) == 0
    metrics.write_text('{"step": 1, "epoch"')
    assert last_epoch(metrics) == 0
    lines = [json.dumps({"step": i, "epoch": i / 10}) for i in range(1000)]
    metrics.write_text("\n".join(lines) + '\n{"step": 1000, "ep')
    assert last_epoch(metrics) == 99.9


def test_a_run_that_fails_is_named_and_the_others_are_done(
    ablation: Ablation, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = OptimiserConfig(lr_weights=1e9, lr_biases=1e9, warmup_epochs=0)
    base = replace(ablation.base, optimiser=wild, epochs=40)
    with pytest.raises(SystemExit) as end:
        ablate(replace(ablation, base=base, cell=("rrc", "random")))
    assert end.value.code == 1
    out = capsys.readouterr().out
    assert "failed   rrc/seed-0: the loss is nan at step" in out
    report = (ablation.folder / "report.md").read_text()
    assert "- `rrc/seed-0` failed: the loss is nan" in report
    (row,) = results_of(ablation.folder)
    assert row["cell"] == "random"


def results_of(out: Path) -> list[dict[str, str]]:
    """Read the rows of results.csv."""
    return list(csv.DictReader((out / "results.csv").read_text().splitlines()))


@dataclass
class Story:
    """An ablation whose driver was killed in the middle of its second run, then run again."""

    out: Path
    killed_text: str
    finished: dict[Path, int]
    """Files of the finished run and when they were written, ns."""
    interrupted: Path
    lines: list[dict[str, float]]
    """Of the interrupted run, up to its checkpoint."""
    last: "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory, shards: Path, demo_waves: dict[str, np.ndarray]
) -> Story:
    """Kill the driver once a run is finished and another has saved; run the command again."""
    folder = tmp_path_factory.mktemp("ablation")
    write_toy_task(folder / "tasks" / TASK, demo_waves)
    options: dict[str, Any] = {
        "--shards": shards, "--tasks-dir": "tasks", "--out": "out", "--slots": 1,
        "--projector-hidden": 32, "--projector-out": 16, "--crop-frames": 32, "--batch": 8,
        "--epochs": 12, "--device": "cpu", "--precision": "float32", "--log-every": 1,
        "--checkpoint-every-s": 0, "--ranges.mixup.memory": 12,
    }  # fmt: skip
    words = [str(word) for option in options.items() for word in option]
    command = [
        sys.executable, "-m", "audio_barlow_twins", "train", "ablation", "demo",
        *words, "--encoder-options", *SMALL, "--cell", *CELLS,
    ]  # fmt: skip
    place = {
        "cwd": folder,
        "env": os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        "text": True,
    }
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, **place)
        runs = {cell: folder / "out" / cell / "seed-0" for cell in CELLS}
        done, going = wait_until_one_is_done_and_one_goes(runs, process, log)
        for pid in (process.pid, *descendants(process.pid)):  # a worker would finish its run
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
    saved = load_checkpoint(going / "checkpoint.pt").step
    lines = read_metrics(going / "metrics.jsonl")
    files = [path for path in done.rglob("*") if path.is_file()]
    return Story(
        out=folder / "out",
        killed_text=log.read_text(),
        finished={path: path.stat().st_mtime_ns for path in files},
        interrupted=going,
        lines=[line for line in lines if line["step"] <= saved],
        last=subprocess.run(command, capture_output=True, check=False, **place),
    )


def wait_until_one_is_done_and_one_goes(
    runs: dict[str, Path], process: "subprocess.Popen[str]", log: Path
) -> tuple[Path, Path]:
    """Poll until a trained run has its scores and another has saved a few steps."""

    def found() -> tuple[Path, Path] | None:
        trained = [run for run in runs.values() if (run / "checkpoint.pt").exists()]
        done = [run for run in trained if (run / "hear" / f"{TASK}.json").exists()]
        going = [run for run in trained if not (run / "hear").exists()]
        if done and going and len(read_metrics(going[0] / "metrics.jsonl")) > 2:
            return done[0], going[0]
        return None

    return wait_until(found, process, log.read_text)


class TestStory:
    """What holds after the kill and the second run."""

    def test_the_kill_hit_a_run_on_its_way(self, story: Story) -> None:
        assert 0 < len(story.lines) < 60
        assert len(story.finished) > 5

    def test_the_second_command_does_what_is_missing(self, story: Story) -> None:
        assert story.last.returncode == 0, story.last.stderr
        assert "3 runs planned, 2 to do" in story.last.stderr

    def test_the_finished_run_is_left_alone(self, story: Story) -> None:
        for path, written in story.finished.items():
            assert path.stat().st_mtime_ns == written, path

    def test_the_interrupted_run_went_on_from_its_checkpoint(self, story: Story) -> None:
        lines = read_metrics(story.interrupted / "metrics.jsonl")
        assert lines[: len(story.lines)] == story.lines  # with the seconds that they took
        assert [line["step"] for line in lines] == list(range(1, 61))

    def test_results_have_a_row_a_run_with_its_mean_over_folds(self, story: Story) -> None:
        rows = results_of(story.out)
        assert [row["cell"] for row in rows] == ["rrc", "noise", "random"]  # as in the figure
        for row in rows:
            file = story.out / row["cell"] / f"seed-{row['seed']}" / "hear" / f"{row['task']}.json"
            (run,) = json.loads(file.read_text())["result"]["runs"]
            folds = [fold["test"]["test_top1_acc"] for fold in run["folds"]]
            assert len(folds) == 3
            assert float(row["value"]) == pytest.approx(np.mean(folds))
            assert row["published"] == ""

    def test_report_and_figure_are_there(self, story: Story) -> None:
        report = (story.out / "report.md").read_text()
        assert all(f"| {cell} " in report for cell in CELLS)
        assert (story.out / "ablation.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert f"report   {story.out.name}: report.md" in story.last.stdout

"""`abt train` as a user runs it: stopped, killed, resumed, finished, refused."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from small_encoder import SMALL
from states import assert_same_state
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from waiting import HANG_S, wait_until

from audio_barlow_twins.model.checkpoint import load_checkpoint, restore_encoder
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.form import logmel_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.train.config import OptimiserConfig, TrainConfig
from audio_barlow_twins.train.run.folder import read_metrics
from audio_barlow_twins.train.run.session import train

ROOT = Path(__file__).parents[3]
CLIPS = 40
STEPS = 20
Metrics = list[dict[str, float]]


@dataclass
class Story:
    """A run that was stopped by SIGTERM, then killed, then resumed to its end."""

    config: TrainConfig
    stop_code: int
    stop_text: str
    stopped_at: int
    killed_at: int


@pytest.fixture(scope="module")
def long_config(tmp_path_factory: pytest.TempPathFactory, shards: Path) -> TrainConfig:
    """Describe a run of twenty steps with the sizes that `start` gives."""
    return TrainConfig(
        shards=str(shards),
        run=tmp_path_factory.mktemp("runs") / "straight",
        encoder_options=SMALL,
        projector_hidden=32,
        projector_out=16,
        crop_frames=32,
        batch=8,
        epochs=STEPS * 8 / CLIPS,
        device="cpu",
        precision="float32",
        log_every=1,
        checkpoint_every_s=0,
    )


def start(config: TrainConfig, *more: str) -> "subprocess.Popen[str]":
    """Start the command line that means `config`."""
    options = {
        "--shards": config.shards,
        "--run": config.run,
        "--projector-hidden": config.projector_hidden,
        "--projector-out": config.projector_out,
        "--crop-frames": config.crop_frames,
        "--batch": config.batch,
        "--epochs": config.epochs,
        "--device": config.device,
        "--precision": config.precision,
        "--log-every": config.log_every,
        "--checkpoint-every-s": config.checkpoint_every_s,
    }
    words = ["--encoder-options", *config.encoder_options]
    words += [str(word) for option in options.items() for word in option]
    return subprocess.Popen(
        [sys.executable, "-m", "audio_barlow_twins", "train", "demo", *words, *more],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_step(config: TrainConfig, step: int, process: "subprocess.Popen[str]") -> None:
    """Poll the metrics until a step beyond `step` was saved."""

    def saved() -> bool:
        lines = read_metrics(config.run / "metrics.jsonl")
        return any(line["step"] > step for line in lines) and last.exists()

    last = config.run / "checkpoint.pt"
    wait_until(saved, process)


def train_in_one_thread(config: TrainConfig) -> None:
    """Train in this process as the child processes do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    train(config)
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def straight(long_config: TrainConfig) -> TrainConfig:
    """Train without a break."""
    train_in_one_thread(long_config)
    return long_config


@pytest.fixture(scope="module")
def story(long_config: TrainConfig) -> Story:
    """Stop a run, resume and kill it, resume it to its end."""
    config = replace(long_config, run=long_config.run.with_name("broken"))
    process = start(config)
    wait_for_step(config, 1, process)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=HANG_S)
    stopped_at = load_checkpoint(config.run / "checkpoint.pt").step
    killed = start(config, "--resume")
    wait_for_step(config, stopped_at + 2, killed)
    killed.kill()
    killed.communicate()
    killed_at = load_checkpoint(config.run / "checkpoint.pt").step
    time.sleep(1)  # TensorBoard orders its files by the second in which they were begun
    train_in_one_thread(replace(config, resume=True))
    return Story(config, process.returncode, out, stopped_at, killed_at)


def test_the_stop_and_the_kill_hit_a_run_on_its_way(story: Story) -> None:
    assert 0 < story.stopped_at < story.killed_at < STEPS


def test_sigterm_saves_says_so_and_ends_with_143(story: Story) -> None:
    assert story.stop_code == 128 + signal.SIGTERM
    assert story.stop_text == (
        f"stopped by SIGTERM at step {story.stopped_at} of {STEPS}, saved; "
        "go on with the same command and --resume\n"
    )


def test_a_stopped_and_killed_run_ends_bit_for_bit_like_a_straight_one(
    story: Story, straight: TrainConfig
) -> None:
    ends = [load_checkpoint(config.run / "checkpoint.pt") for config in (story.config, straight)]
    assert [end.step for end in ends] == [STEPS, STEPS]
    assert_same_state(*ends)


def test_metrics_have_every_step_once_with_the_losses_of_a_straight_run(
    story: Story, straight: TrainConfig
) -> None:
    found, wanted = (read_metrics(c.run / "metrics.jsonl") for c in (story.config, straight))
    assert [line["step"] for line in found] == list(range(1, STEPS + 1))
    for name in ("loss", "on_diagonal", "off_diagonal_weighted", "lr", "epoch"):
        assert [line[name] for line in found] == [line[name] for line in wanted]


def test_a_metrics_line_tells_where_the_time_went(straight: TrainConfig) -> None:
    for line in read_metrics(straight.run / "metrics.jsonl"):
        shares = [value for name, value in line.items() if name.startswith("share_")]
        assert len(shares) == 9
        assert sum(shares) == pytest.approx(1, abs=1e-3)
        assert line["clips_per_s"] * line["seconds"] == pytest.approx(8)
        total = line["on_diagonal"] + line["off_diagonal_weighted"]
        assert line["loss"] == pytest.approx(total, rel=1e-5)


def test_fewer_lines_carry_the_mean_of_their_steps(straight: TrainConfig, tmp_path: Path) -> None:
    coarse = replace(straight, run=tmp_path / "coarse", log_every=8, look_epochs=9)
    coarse = replace(coarse, checkpoint_every_s=3600)
    train_in_one_thread(coarse)
    steps = [line["loss"] for line in read_metrics(straight.run / "metrics.jsonl")]
    lines = read_metrics(coarse.run / "metrics.jsonl")
    assert [line["step"] for line in lines] == [8, 16, 20]
    means = [sum(part) / len(part) for part in (steps[:8], steps[8:16], steps[16:])]
    assert [line["loss"] for line in lines] == pytest.approx(means, rel=1e-5)


def test_the_run_folder_holds_what_the_docs_say(story: Story) -> None:
    run = story.config.run
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert json.loads((run / "config.json").read_text())["batch"] == 8
    kinds = {path.name.split(".")[0] for path in run.iterdir()}
    assert kinds == {
        "config", "metrics", "checkpoint", "encoder", "loss", "correlation", "correlations",
        "events",
    }  # fmt: skip


def test_tensorboard_shows_every_step_once(story: Story) -> None:
    events = EventAccumulator(str(story.config.run)).Reload()
    assert {"loss", "lr", "clips_per_s"} <= set(events.Tags()["scalars"])
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    lines = read_metrics(story.config.run / "metrics.jsonl")
    assert [step for step, _ in found] == [line["step"] for line in lines]
    assert [loss for _, loss in found] == pytest.approx([line["loss"] for line in lines])


def test_the_encoder_embeds(story: Story) -> None:
    checkpoint = load_checkpoint(story.config.run / "encoder.pt")
    assert checkpoint.step == STEPS
    assert checkpoint.training is None
    encoder = restore_encoder(checkpoint)
    embedding = encoder(torch.randn(3, 96, 64))
    assert embedding.shape == (3, 32 + 4 * 16)
    assert bool(embedding.isfinite().all())


def test_a_finished_run_prints_its_summary_and_takes_no_step(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    run = story.config.run
    names = ("checkpoint.pt", "encoder.pt", "metrics.jsonl", "config.json")
    before = {name: (run / name).read_bytes() for name in names}
    times = [(run / name).stat().st_mtime_ns for name in names[:2]]
    train(replace(story.config, resume=True))
    printed = capsys.readouterr().out
    assert f"the first and the last tenth of {STEPS} steps" in printed
    assert f"make eval CHECKPOINT={run}/encoder.pt" in printed
    assert {name: (run / name).read_bytes() for name in names} == before
    assert [(run / name).stat().st_mtime_ns for name in names[:2]] == times


def test_a_second_start_is_one_line_and_exit_code_2(story: Story) -> None:
    _, error = (process := start(story.config)).communicate(timeout=HANG_S)
    assert process.returncode == 2
    assert error.startswith(f"error: {story.config.run} holds a run already")
    assert len(error.splitlines()) == 1


def test_a_resume_on_other_shards_is_refused(
    story: Story,
    arrays: dict,
    write_set: Callable[..., Path],
    tmp_path: Path,
) -> None:
    fewer = write_set(tmp_path, logmel_form(FrontEnd()), dict(list(arrays.items())[:20]))
    with pytest.raises(UserError, match="give the same --shards"):
        train(replace(story.config, resume=True, shards=str(fewer)))


def test_views_of_waveforms_are_refused_on_log_mel_and_leave_no_run_folder(
    config: TrainConfig,
) -> None:
    with pytest.raises(UserError, match="holds log-mel, but gain change waveforms"):
        train(replace(config, views=("gain",)))
    assert not config.run.exists()


def test_a_missing_set_is_one_line_and_leaves_no_run_folder(
    config: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="absent does not exist; make it with `make ingest`"):
        train(replace(config, shards=str(tmp_path / "absent")))
    assert not config.run.exists()


def test_a_run_that_diverges_stops_with_one_line(config: TrainConfig) -> None:
    wild = OptimiserConfig(lr_weights=1e9, lr_biases=1e9, warmup_epochs=0)
    with pytest.raises(UserError, match=r"the loss is nan at step \d+: the run has diverged"):
        train(replace(config, epochs=40, optimiser=wild))
    losses = [line["loss"] for line in read_metrics(config.run / "metrics.jsonl")]
    assert all(math.isfinite(loss) for loss in losses)
    assert len(losses) < 40 * CLIPS / config.batch

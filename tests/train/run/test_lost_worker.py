"""A worker killed in the middle: the run goes on from its last checkpoint, with any number."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import rank_worker
import torch
from waiting import HANG_S, wait_until

from audio_barlow_twins.model.checkpoint import Checkpoint, load_checkpoint
from audio_barlow_twins.model.encoders import build_encoder
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.train.config import TrainConfig
from audio_barlow_twins.train.run.folder import read_metrics
from audio_barlow_twins.train.run.launch import launch

WORKER = Path(rank_worker.__file__)
ROOT = WORKER.parents[2]
CLIPS, STEPS = 40, 17
CANCELLED = ("features.0.bias", "features.4.bias")
"""Biases before a batch norm: their gradient is zero but for rounding."""
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def start(words: list[str], what: str, shards: Path, folder: Path) -> "subprocess.Popen[str]":
    """Start the worker, through torchrun if `words` say so."""
    return subprocess.Popen(
        [sys.executable, *words, str(WORKER), what, str(shards), str(folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_step(folder: Path, step: int, process: "subprocess.Popen[str]") -> None:
    """Poll the metrics until `step` was taken."""
    metrics = folder / "run/metrics.jsonl"
    wait_until(lambda: any(line["step"] >= step for line in read_metrics(metrics)), process)


def kill_rank(rank: int, folder: Path) -> None:
    """Kill the process of a rank, as its record names it."""
    (record,) = folder.glob(f"{rank}-of-*")
    os.kill(int(record.name.rsplit("-", 1)[1]), signal.SIGKILL)


def seen(folder: Path, world: int, steps: range) -> list[tuple[int, int]]:
    """List epoch and clip of everything that `world` processes read in these steps."""
    found = []
    for path in folder.glob(f"*-of-{world}-*"):
        for line in map(json.loads, path.read_text().splitlines()):
            if line["step"] in steps:
                found += zip(line["epoch"], line["clips"], strict=True)
    return found


def end(folder: Path) -> Checkpoint:
    """Load the last checkpoint."""
    return load_checkpoint(folder / "run/checkpoint.pt")


def distance(found: Checkpoint, wanted: Checkpoint) -> float:
    """Measure how far two ends are apart, relative to the way from the beginning; the worst tensor.

    Rounding grows with every step (a maximum flips), but another clip, crop, view or mate in the
    mixup moves the weights by a good part of the way.
    """
    assert found.step == wanted.step == STEPS
    torch.manual_seed(0)
    begin = build_encoder("audiontt", wanted.sizes).state_dict()
    return max(
        float((found.state[name] - value).norm() / (begin[name] - value).norm())
        for name, value in wanted.state.items()
        if name.endswith(("weight", "bias")) and name not in CANCELLED
    )


@pytest.fixture(scope="module")
def straight(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train in one process without a break."""
    folder = tmp_path_factory.mktemp("straight")
    process = start([], "record", shards, folder)
    _, error = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, error
    return folder


@pytest.fixture(scope="module")
def broken(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train with two processes under torchrun and kill the second one."""
    folder = tmp_path_factory.mktemp("broken")
    process = start([*TORCHRUN, "2"], "record", shards, folder)
    wait_for_step(folder, 7, process)
    kill_rank(1, folder)
    process.communicate(timeout=HANG_S)
    assert process.returncode != 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 3])
def test_a_run_that_lost_one_of_two_goes_on_with_another_number(
    broken: Path, straight: Path, shards: Path, tmp_path: Path, world: int
) -> None:
    folder = shutil.copytree(broken, tmp_path / "copy")
    saved = end(folder).step
    assert 7 <= saved < STEPS
    process = start([] if world == 1 else [*TORCHRUN, str(world)], "resume", shards, folder)
    _, error = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, error
    taken = seen(folder, 2, range(saved)) + seen(folder, world, range(saved, STEPS))
    assert len(taken) == STEPS * rank_worker.BATCH
    assert set(Counter(taken).values()) == {1}
    for epoch in (0, 1):
        assert sorted(clip for e, clip in taken if e == epoch) == list(range(CLIPS))
    assert distance(end(folder), end(straight)) < 0.05


def test_a_launched_run_replaces_a_lost_worker_by_itself(
    straight: Path, shards: Path, tmp_path: Path
) -> None:
    process = start([], "launch", shards, tmp_path)
    wait_for_step(tmp_path, 7, process)
    kill_rank(1, tmp_path)
    out, error = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, error
    assert f"the first and the last tenth of {STEPS} steps" in out
    assert [line["step"] for line in read_metrics(tmp_path / "run/metrics.jsonl")] == list(
        range(1, STEPS + 1)
    )
    assert distance(end(tmp_path), end(straight)) < 0.05


@pytest.mark.slow
def test_sigterm_stops_all_workers_at_one_saved_step(shards: Path, tmp_path: Path) -> None:
    process = start([], "launch", shards, tmp_path)
    wait_for_step(tmp_path, 4, process)
    process.terminate()
    out, error = process.communicate(timeout=HANG_S)
    assert process.returncode == 128 + signal.SIGTERM, error
    step = end(tmp_path).step
    assert 4 <= step < STEPS
    assert f"stopped by SIGTERM at step {step} of {STEPS}, saved" in out
    taken = [
        max(json.loads(line)["step"] for line in path.read_text().splitlines())
        for path in tmp_path.glob("*-of-2-*")
    ]
    assert taken == [step - 1, step - 1]


def refuse(config: TrainConfig) -> None:
    """Stand for a training that cannot begin."""
    from audio_barlow_twins.train.step.ranks import AgreedError

    raise AgreedError(f"no run in {config.run.name}")


def die(config: TrainConfig) -> None:
    """Stand for a training that is killed whenever it is started."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_no_restart_would_mend_is_said_once(shards: Path, tmp_path: Path) -> None:
    config = rank_worker.make_config(shards, tmp_path / "run")
    with pytest.raises(UserError, match=r"^no run in run$"):
        launch(refuse, config)


def test_a_worker_that_dies_every_time_ends_the_run_with_one_line(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    config = rank_worker.make_config(shards, tmp_path / "run")
    config = TrainConfig(**{**vars(config), "restarts": 1})
    with pytest.raises(UserError, match="worker 0 ended with code -9, and --restarts 1 are used"):
        launch(die, config)

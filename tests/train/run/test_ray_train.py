"""`make train WORKERS=2` on two Ray nodes: lost workers are replaced, and numbers may change."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from process_tree import command_line, parent_of, processes
from quiet_cluster import quiet_cluster
from ray.cluster_utils import Cluster
from small_encoder import SMALL
from test_lost_worker import ROOT, STEPS, distance, end, wait_for_step
from waiting import HANG_S

from audio_barlow_twins.shards.base.device import on_gpu
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.cluster.workers import cpus_each
from audio_barlow_twins.train.config import TrainConfig
from audio_barlow_twins.train.run.folder import read_metrics
from audio_barlow_twins.train.run.launch import work_on_a_node

OF_RAY = (
    "ray::DashboardAgent",
    "ray::RuntimeEnvAgent",
    "ray::_AutoscalingCoordinatorActor",
    "ray::PlacementGroupCleaner",
)
"""What Ray itself leaves on a cluster that has trained: its helpers, one of each kind."""
REFUSAL = """
import os, sys
from pathlib import Path
from audio_barlow_twins.shards.base.cli import run_command
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.cluster.fan_out import cluster
from audio_barlow_twins.shards.cluster.workers import Team, run_workers

def refuse(spoken):
    import time
    if os.environ["RANK"] == "1":
        while not spoken.exists():
            time.sleep(0.1)
        raise UserError("this node has no disk")
    sys.stdout.write("the first is heard\\n")
    spoken.touch()
    time.sleep(60)

def main():
    with cluster():
        folder = Path(sys.argv[1])
        team = Team(workers=2, restarts=3, use_gpu=False, scratch=folder / "scratch")
        run_workers(refuse, (folder / "spoken",), team, print)

run_command(main)
"""
"""Workers of which the second one finds something that no restart would mend."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """Run a head that only drives and two nodes of one CPU, without a checkout on their paths."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.3")  # Ray's own is 2 s
        cluster = quiet_cluster(0)
        try:
            for _ in range(2):
                cluster.add_node(num_cpus=1)
            yield cluster
        finally:
            cluster.shutdown()


def start(shards: Path, run: Path, *options: str, address: str = "") -> "subprocess.Popen[str]":
    """Start the command, with the numbers of rank_worker.make_config."""
    sizes = f"--encoder-options {' '.join(SMALL)}"
    sizes += " --projector-hidden 32 --projector-out 16 --crop-frames 32 --batch 7 --epochs 3"
    pace = "--optimiser.lr-weights 1 --optimiser.lr-biases 0.05 --optimiser.warmup-epochs 0"
    rest = "--ranges.mixup.memory 12 --precision float32 --reader-ahead 2 --no-preflight"
    notes = "--log-every 1 --checkpoint-every-s 0 --restarts 1 --resume"
    words = f"{sizes} {pace} {rest} {notes}".split()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment |= {"RAY_ADDRESS": address} if address else {}
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "audio_barlow_twins", "train", "demo"),
            *("--shards", str(shards), "--run", os.path.relpath(run, ROOT), *words, *options),
        ],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(driver: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait for the end; return code, stdout and stderr."""
    out, error = driver.communicate(timeout=HANG_S)
    return driver.returncode, out, error


def on_the_nodes(cluster: Cluster) -> dict[int, str]:
    """List the processes that the nodes of this cluster have started, but Ray's helpers."""
    nodes = cluster.list_all_nodes()
    raylets = {node.all_processes["raylet"][0].process.pid for node in nodes}
    lines = {pid: command_line(pid) for pid in processes() if parent_of(pid) in raylets}
    return {
        pid: line
        for pid, line in lines.items()
        if line.startswith("ray::") and not line.startswith(OF_RAY)
    }


def assert_empty(cluster: Cluster) -> None:
    """Wait until only Ray's helpers are left on the nodes."""
    deadline = time.monotonic() + HANG_S
    while left := on_the_nodes(cluster):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


@pytest.fixture(scope="module")
def straight(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train in one process without a break."""
    folder = tmp_path_factory.mktemp("straight")
    code, _, error = finish(start(shards, folder / "run"))
    assert code == 0, error
    return folder


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_the_run_ends_as_with_one_process(
    nodes: Cluster, straight: Path, shards: Path, tmp_path: Path
) -> None:
    driver = start(shards, tmp_path / "run", "--workers", "2", address=nodes.address)
    wait_for_step(tmp_path, 7, driver)
    workers = {p: line for p, line in on_the_nodes(nodes).items() if "RayTrainWorker" in line}
    assert len(workers) == 2
    os.kill(min(workers), signal.SIGKILL)
    code, out, error = finish(driver)
    assert code == 0, error
    assert f"the first and the last tenth of {STEPS} steps" in out
    assert "was lost; all start again from the last checkpoint" in error
    assert error.count(f"{STEPS} steps of 7 by 2 processes, ") == 2
    lines = read_metrics(tmp_path / "run/metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert {line["workers"] for line in lines} == {2}
    assert distance(end(tmp_path), end(straight)) < 0.05
    assert not list((tmp_path / "run").glob(".*"))


@pytest.mark.slow
def test_a_stopped_run_leaves_no_process_and_goes_on_with_another_number(
    nodes: Cluster, straight: Path, shards: Path, tmp_path: Path
) -> None:
    driver = start(shards, tmp_path / "run", "--workers", "3", address=nodes.address)
    wait_for_step(tmp_path, 5, driver)
    driver.terminate()
    code, out, error = finish(driver)
    assert code == 128 + signal.SIGTERM, error
    (line,) = out.splitlines()
    assert line.startswith("stopped by SIGTERM at step ")
    assert "Traceback" not in error
    assert_empty(nodes)
    saved = end(tmp_path).step
    assert f" at step {saved} of {STEPS}, saved;" in line
    assert 5 <= saved < STEPS
    code, _, error = finish(start(shards, tmp_path / "run"))
    assert code == 0, error
    lines = read_metrics(tmp_path / "run/metrics.jsonl")
    # Three were asked for, there was room for two.
    assert [line["workers"] for line in lines] == [2] * saved + [1] * (STEPS - saved)
    assert distance(end(tmp_path), end(straight)) < 0.05


@pytest.mark.slow
def test_what_one_worker_refuses_ends_all_with_its_line(nodes: Cluster, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", REFUSAL, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"RAY_ADDRESS": nodes.address},
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "error: this node has no disk"
    assert "Traceback" not in done.stderr
    assert done.stdout == "the first is heard\n"
    assert_empty(nodes)


def test_a_node_that_does_not_see_the_run_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be at the same path on all nodes"):
        work_on_a_node(lambda config: None, TrainConfig(), tmp_path / "not-there")


@pytest.mark.parametrize(
    ("nodes", "workers", "each"),
    [([8], 2, 4), ([8, 8], 2, 8), ([8, 4], 3, 4), ([0, 1, 1], 2, 1), ([2], 5, 1)],
)
def test_workers_share_the_cpus_of_the_nodes(nodes: list[int], workers: int, each: int) -> None:
    assert cpus_each(nodes, workers) == each


def test_auto_takes_gpus_where_the_cluster_has_some() -> None:
    assert [on_gpu("auto", gpus) for gpus in (0, 4)] == [False, True]
    assert [on_gpu("cpu", 4), on_gpu("cuda", 1)] == [False, True]
    with pytest.raises(UserError, match="the Ray cluster has no GPU"):
        on_gpu("cuda", 0)

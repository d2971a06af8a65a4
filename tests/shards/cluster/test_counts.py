"""Progress of running tasks, told across a real cluster: seen early, never twice, never in the way.

Tasks wait for a file that the driver makes once it has seen on the bar what they have reported.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from quiet_cluster import quiet_cluster
from waiting import HANG_S

from audio_barlow_twins.shards.base import progress
from audio_barlow_twins.shards.base.progress import report_progress
from audio_barlow_twins.shards.cluster import counts
from audio_barlow_twins.shards.cluster.fan_out import cluster, fan_out
from audio_barlow_twins.shards.stored.writer import ShardReport


def wait_for(file: Path) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + HANG_S
    while not file.exists():
        assert time.monotonic() < deadline, f"nobody has made {file}"
        time.sleep(0.02)


def report_and_wait(task: tuple[Path, int]) -> ShardReport:
    """Do some of ten clips, the others once that was seen; tell on which node."""
    file, first = task
    report_progress(first)
    wait_for(file)
    return ShardReport(10, {ray.get_runtime_context().get_node_id(): 10})


def lose_a_worker(folder: Path) -> ShardReport:
    """Do seven clips and die, as a process does whose node is lost; then do it properly."""
    if not (folder / "lost").exists():
        report_progress(7)
        wait_for(folder / "seven")
        (folder / "lost").touch()
        os._exit(1)
    report_progress(2)
    wait_for(folder / "two")
    return ShardReport(10, {"ok": 10})


def give_back(folder: Path) -> ShardReport:
    """Do four clips and give them back; the next one does all."""
    if (folder / "four").exists():
        return ShardReport(10, {"ok": 10})
    report_progress(4)
    wait_for(folder / "four")
    return ShardReport(0, {})


def report_again(folder: Path) -> ShardReport:
    """Do three clips, and two more later."""
    report_progress(3)
    wait_for(folder / "three")
    report_progress(2)
    wait_for(folder / "five")
    return ShardReport(10, {"ok": 10})


class Screen:
    """The lines of a run; once a number is among them, something happens."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys, self.text = capsys, ""
        self.then: dict[int, Callable[[], object]] = {}

    def numbers(self) -> list[int]:
        """List where the bar stood, without repetitions."""
        self.text += self.capsys.readouterr().err
        found = [int(n) for n in re.findall(r"^(\d+) of \d+ clips", self.text, re.MULTILINE)]
        return [n for n, before in zip(found, [-1, *found], strict=False) if n != before]

    def look(self) -> str:
        """React to what is there; the driver asks each second for a text beside the bar."""
        for number in self.numbers():
            self.then.pop(number, lambda: None)()
        return ""


@pytest.fixture
def screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Let a line be written whenever the bar moves, from the first second on."""
    monkeypatch.setattr(progress, "LINE_S", 0.0)
    monkeypatch.setattr(counts, "START_S", 0.0)
    return Screen(capsys)


def actors() -> list[str]:
    """Name what gathers progress on the cluster."""
    return [each["name"] for each in ray.util.list_named_actors(all_namespaces=True)]


@pytest.fixture(scope="module")
def nodes() -> Iterator[None]:
    """Join a cluster of two nodes of one CPU."""
    here = Path(__file__).parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (here, here.parents[1]))))
        both = quiet_cluster(1)
        both.add_node(num_cpus=1)
        patch.setenv("RAY_ADDRESS", both.address)
        with cluster():
            yield
        both.shutdown()


pytestmark = pytest.mark.usefixtures("nodes")


def test_the_bar_moves_while_tasks_run_on_any_node(screen: Screen, tmp_path: Path) -> None:
    screen.then = {7: (tmp_path / "go").touch}  # both have spoken
    tasks = [(tmp_path / "go", 3), (tmp_path / "go", 4)]
    reports = list(fan_out(report_and_wait, tasks, total_clips=20, describe=screen.look))
    assert len({node for report in reports for node in report.outcomes}) == 2
    assert screen.numbers()[-1] == 20


def test_what_a_lost_worker_had_done_is_not_counted_beside_its_second_try(
    screen: Screen, tmp_path: Path
) -> None:
    screen.then = {7: (tmp_path / "seven").touch, 2: (tmp_path / "two").touch}
    list(fan_out(lose_a_worker, [tmp_path], total_clips=10, describe=screen.look))
    assert screen.numbers() == [0, 7, 2, 10]


def test_a_task_that_is_given_back_takes_its_count_away(screen: Screen, tmp_path: Path) -> None:
    def follow(report: ShardReport) -> list[Path]:
        return [] if report.clips else [tmp_path]

    screen.then = {4: (tmp_path / "four").touch}
    look = screen.look
    list(fan_out(give_back, [tmp_path], total_clips=10, describe=look, follow=follow))
    found = screen.numbers()
    assert (found[:2], found[-1], max(found)) == ([0, 4], 10, 10)


@pytest.mark.parametrize("for_good", [False, True], ids=["made anew", "gone"])
def test_a_lost_process_of_progress_does_not_disturb_the_run(
    screen: Screen, tmp_path: Path, for_good: bool
) -> None:
    def lose() -> None:
        (found,) = actors()
        ray.kill(ray.get_actor(found, counts.NAMESPACE), no_restart=for_good)
        (tmp_path / "three").touch()
        if for_good:
            (tmp_path / "five").touch()

    screen.then = {3: lose, 5: (tmp_path / "five").touch}
    list(fan_out(report_again, [tmp_path], total_clips=10, describe=screen.look))
    assert screen.numbers() == ([0, 3, 10] if for_good else [0, 3, 5, 10])


def test_progress_leaves_no_process_behind_when_its_run_ends_or_is_left(
    screen: Screen, tmp_path: Path
) -> None:
    screen.then = {3: (tmp_path / "go").touch}
    tasks = [(tmp_path / "go", 3), (tmp_path / "never", 0)]
    for _ in fan_out(report_and_wait, tasks, total_clips=20, describe=screen.look):
        assert len(actors()) == 1
        break
    deadline = time.monotonic() + HANG_S
    while actors() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert actors() == []


def test_a_short_run_starts_no_process_for_its_progress(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "START_S", HANG_S)
    seen: list[list[str]] = []

    def look() -> str:
        seen.append(actors())
        if len(seen) == 2:
            (tmp_path / "go").touch()
        return ""

    list(fan_out(report_and_wait, [(tmp_path / "go", 3)], total_clips=10, describe=look))
    assert seen[0] == seen[1] == []
    assert screen.numbers() == [0, 10]

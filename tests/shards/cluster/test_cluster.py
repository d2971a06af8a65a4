"""Work on a real Ray, local or joined: a bounded window, errors as they were, nothing left."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import ray
from quiet_cluster import quiet_cluster

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.cluster.fan_out import Shared, cluster, fan_out, host
from audio_barlow_twins.shards.stored.writer import ShardReport


def slow_square(number: int) -> ShardReport:
    """Sleep for longer than the driver waits between two looks."""
    time.sleep(1.2)
    return ShardReport(1, {"ok": number * number})


def fail(error: type[Exception]) -> ShardReport:
    """Stand for a bug in a task, or for something the user can mend."""
    raise error("one too many")


def where_our_code_is(_: object) -> ShardReport:
    """Tell what a Python that knows only what Ray told this worker imports as our code."""
    program = "from audio_barlow_twins import shards; print(shards.__path__[0])"
    found = subprocess.run(
        [sys.executable, "-c", program], cwd="/", capture_output=True, text=True, check=True
    )
    return ShardReport(1, {found.stdout.strip(): 1})


def tick(file: Path) -> ShardReport:
    """Go on writing until killed; the first one of a name ends at once."""
    if file.name == "quick":
        return ShardReport(1, {"ok": 1})
    while True:
        with file.open("a") as ticks:
            ticks.write(".")
        time.sleep(0.05)


class Counting:
    """A thing that is shared."""

    def __init__(self, start: int) -> None:
        self.value = start

    def add(self, n: int) -> int:
        """Count."""
        self.value += n
        return self.value

    def refuse(self) -> None:
        """Raise what the user can mend."""
        raise UserError("not so many")

    def lose(self, mark: str) -> int:
        """Die the first time, as a process does whose node is lost."""
        if not Path(mark).exists():
            Path(mark).touch()
            os._exit(1)
        return self.value


def count_up(task: tuple[Shared, int]) -> ShardReport:
    """Use the shared object inside a task."""
    shared, n = task
    return ShardReport(1, {"counted": shared.call(Counting.add, n)})


@pytest.fixture(scope="module", autouse=True)
def importable_here() -> Iterator[None]:
    """Let workers import this file and what it imports, but not the checkout's packages."""
    here = Path(__file__).parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (here, here.parents[1]))))
        yield


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Start a cluster of two nodes, as an administrator would, and return its address."""
    nodes = quiet_cluster(1)
    nodes.add_node(num_cpus=1)
    yield nodes.address
    nodes.shutdown()


@pytest.fixture
def joined(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let RAY_ADDRESS point to that cluster."""
    monkeypatch.setenv("RAY_ADDRESS", address)


def name(task: str) -> ShardReport:
    """Report the name of a task."""
    return ShardReport(1, {task: 1})


@pytest.fixture(scope="class")
def slot() -> Iterator[None]:
    """Start a local cluster of one CPU, and see that it ends with its block."""
    with cluster(slots=1) as cpus:
        assert cpus == 1
        yield
    assert not ray.is_initialized()


@pytest.mark.usefixtures("slot")
class TestOneSlot:
    """What holds on one local cluster of a single CPU, which an outer block started."""

    def test_no_more_tasks_are_taken_from_the_list_than_two_a_slot(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        taken, done, most = 0, 0, 0

        def tasks() -> Iterator[int]:
            nonlocal taken, most
            for number in range(4):
                taken += 1
                most = max(most, taken - done)
                yield number

        squares = []
        paused = "proxy 2 paused"
        for report in fan_out(slow_square, tasks(), total_clips=4, describe=lambda: paused):
            done += 1
            squares.append(report.outcomes["ok"])
        assert sorted(squares) == [number * number for number in range(4)]
        assert most == 2
        assert f"ok={sum(squares)}, {paused}" in capsys.readouterr().err

    def test_what_follows_a_result_goes_before_the_tasks_that_wait(self) -> None:
        def follow(report: ShardReport) -> list[str]:
            return ["first's"] if "first" in report.outcomes else []

        tasks = ["first", "second", "third", "fourth"]
        reports = fan_out(name, tasks, total_clips=5, follow=follow)
        assert [*Counter(key for report in reports for key in report.outcomes)] == [
            "first", "second", "first's", "third", "fourth",
        ]  # fmt: skip

    def test_what_the_user_can_mend_stays_one_line(self) -> None:
        with pytest.raises(UserError) as caught:
            list(fan_out(fail, [UserError], total_clips=1))
        assert str(caught.value) == "one too many"

    def test_a_shared_object_is_one_for_driver_and_tasks_and_a_block_lends_its_cluster(
        self, tmp_path: Path
    ) -> None:
        with cluster() as cpus:
            assert cpus == 1
            shared = host("counting", Counting, 10)
            tasks = [(shared, n) for n in (1, 2, 3)]
            counted = [r.outcomes["counted"] for r in fan_out(count_up, tasks, total_clips=3)]
            assert max(counted) == 16
            assert ray.is_initialized()
            assert host("counting", Counting, 99).call(Counting.add, 0) == 16
            with pytest.raises(UserError) as caught:
                shared.call(Counting.refuse)
            assert str(caught.value) == "not so many"
            made_anew = shared.call(Counting.lose, str(tmp_path / "mark"))  # and asked again
            assert made_anew == 10
        assert ray.is_initialized()


def test_a_bug_in_a_task_is_raised_with_its_traceback_and_ends_the_cluster() -> None:
    with pytest.raises(ZeroDivisionError, match="in fail\n"):
        list(fan_out(fail, [ZeroDivisionError], total_clips=1, slots=1))
    assert not ray.is_initialized()


def test_a_cluster_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"no Ray cluster answers at RAY_ADDRESS=127\.0\.0\.1:1"):
        list(fan_out(slow_square, [1], total_clips=1))


@pytest.mark.usefixtures("joined")
def test_nodes_of_a_cluster_need_no_checkout_of_our_code() -> None:
    (report,) = fan_out(where_our_code_is, [0], total_clips=1)
    (folder,) = map(Path, report.outcomes)
    assert not folder.is_relative_to(Path(__file__).parents[3])
    assert (folder / "cluster" / "fan_out.py").is_file()


@pytest.mark.usefixtures("joined")
def test_tasks_end_on_a_cluster_that_goes_on_when_the_consumer_leaves(tmp_path: Path) -> None:
    def consume(folder: Path) -> Iterator[None]:
        folder.mkdir()
        tasks = [folder / "quick", *(folder / str(n) for n in range(3))]
        for _ in fan_out(tick, tasks, total_clips=4, num_cpus=0.5):
            while not (folder / "0").exists():
                time.sleep(0.05)
            yield

    def sizes() -> dict[Path, int]:
        return {path: path.stat().st_size for path in tmp_path.glob("*/*")}

    with cluster():
        for _ in consume(tmp_path / "stops"):
            break
        with suppress(ZeroDivisionError):
            for _ in consume(tmp_path / "raises"):
                raise ZeroDivisionError
        before = sizes()
        assert len(before) >= 2
        time.sleep(0.5)
        assert sizes() == before

"""One ingest run that is interrupted three times: Ctrl-C, a killed driver, a killed worker."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shards.verify import verify

ROOT = Path(__file__).parents[2]
SETS = ("wave", "logmel")
Files = dict[str, tuple[int, bytes]]


@dataclass
class Story:
    """What happened, in order."""

    out: Path
    interrupted_code: int = 0
    interrupted_s: float = 0.0
    interrupted_text: str = ""
    left_by_interrupt: list[str] = field(default_factory=list)
    left_by_kill: list[str] = field(default_factory=list)
    after_interrupt: Files = field(default_factory=dict)
    after_kill: Files = field(default_factory=dict)
    findings_after_kill: list[str] = field(default_factory=list)
    killed_worker: str = ""
    last_code: int = 0
    last_text: str = ""
    end: Files = field(default_factory=dict)


class Driver:
    """A running ingest command in a process group of its own, as a shell would start it."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command, env=environment, cwd=ROOT, stdout=file, stderr=file, process_group=0
            )

    def wait_for(self, what: Callable[[], object], seconds: float = 60) -> None:
        """Poll until `what` is true; it must become so before the command ends."""
        deadline = time.monotonic() + seconds
        while not what():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)

    def descendants(self) -> dict[int, str]:
        """List the command lines of all processes below the driver by process id."""
        parents = {pid: parent_of(pid) for pid in processes()}
        below: dict[int, str] = {}
        front = {self.process.pid}
        while front:
            front = {pid for pid, parent in parents.items() if parent in front}
            below |= {pid: command_line(pid) for pid in front}
        return below


def processes() -> list[int]:
    """List the ids of all processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def parent_of(pid: int) -> int:
    """Return the parent of a process, 0 if it is gone or a zombie."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return 0
    return 0 if state == "Z" else int(parent)


def command_line(pid: int) -> str:
    """Return the command line of a process, '' if it is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def still_there(before: dict[int, str], seconds: float = 20) -> list[str]:
    """Wait for processes to end; return the command lines of those that do not."""
    deadline = time.monotonic() + seconds
    names = {pid: line.split(" ")[0] for pid, line in before.items() if line}
    while True:
        left = [pid for pid, name in names.items() if parent_of(pid) and command_line(pid)]
        left = [pid for pid in left if not is_reused(pid, names[pid])]
        if not left or time.monotonic() > deadline:
            return [command_line(pid) for pid in left]
        time.sleep(0.1)


def is_reused(pid: int, name: str) -> bool:
    """Tell whether a process id belongs to another program now; Ray renames its own."""
    now = command_line(pid).split(" ")[0]
    return now != name and not now.startswith("ray::")


def files_of(out: Path) -> Files:
    """Read every file below a folder and when it was changed."""
    return {
        str(path.relative_to(out)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def committed(out: Path) -> set[str]:
    """Name the shards that both sets have."""
    return set.intersection(*({path.stem for path in (out / s).glob("shard-*.parquet")} for s in SETS))


def finished_files(files: Files) -> Files:
    """Keep the files of the shards that both sets have."""
    stems = [{Path(n).stem for n in files if n.startswith(s) and n.endswith(".parquet")} for s in SETS]
    both = set.intersection(*stems)
    return {name: value for name, value in files.items() if Path(name).stem in both}


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory,
    ingest_command: Callable[..., list[str]],
    environment: dict[str, str],
) -> Story:
    """Interrupt a run with Ctrl-C, kill the next, kill a worker of the third, and let it end."""
    folder = tmp_path_factory.mktemp("story")
    told = Story(folder / "out")
    command = ingest_command(told.out)
    _interrupt(told, Driver(command, environment, folder / "1.log"))
    _kill(told, Driver(command, environment, folder / "2.log"))
    _lose_a_worker(told, Driver(command, environment, folder / "3.log"))
    return told


def _interrupt(told: Story, driver: Driver) -> None:
    driver.wait_for(lambda: committed(told.out))
    below = driver.descendants()
    begin = time.monotonic()
    os.killpg(driver.process.pid, signal.SIGINT)
    told.interrupted_code = driver.process.wait(60)
    told.interrupted_s = time.monotonic() - begin
    told.interrupted_text = driver.log.read_text()
    told.left_by_interrupt = still_there(below)
    told.after_interrupt = files_of(told.out)


def _kill(told: Story, driver: Driver) -> None:
    before = committed(told.out)
    driver.wait_for(lambda: committed(told.out) > before)
    below = driver.descendants()
    driver.process.kill()
    driver.process.wait()
    told.left_by_kill = still_there(below)
    told.after_kill = files_of(told.out)
    told.findings_after_kill = [
        str(finding) for s in SETS for found in verify(told.out / s) for finding in found
    ]


def _lose_a_worker(told: Story, driver: Driver) -> None:
    def kill_one() -> bool:
        for pid, line in driver.descendants().items():
            if line.startswith("ray::ingest_shard"):
                os.kill(pid, signal.SIGKILL)
                told.killed_worker = line
                return True
        return False

    driver.wait_for(kill_one)
    told.last_code = driver.process.wait(120)
    told.last_text = driver.log.read_text()
    told.end = files_of(told.out)


def test_ctrl_c_ends_the_run_within_seconds(story: Story) -> None:
    assert story.interrupted_code == 130
    assert story.interrupted_s < 15


def test_ctrl_c_is_answered_with_one_line_and_no_traceback(story: Story) -> None:
    last = story.interrupted_text.splitlines()[-1]
    assert last.startswith("interrupted; what was finished is kept")
    assert "Traceback" not in story.interrupted_text


def test_ctrl_c_leaves_no_process_behind(story: Story) -> None:
    assert story.left_by_interrupt == []


def test_a_killed_driver_leaves_no_process_behind(story: Story) -> None:
    assert story.left_by_kill == []


def test_the_kills_hit_a_run_that_was_on_its_way(story: Story, finished: Path) -> None:
    counts = [len(finished_files(files)) for files in (story.after_interrupt, story.after_kill)]
    assert 0 < counts[0] < counts[1] < len(files_of(finished))


def test_every_shard_with_a_sidecar_is_sound_after_a_kill(story: Story) -> None:
    assert story.findings_after_kill == []


def test_finished_shards_are_not_written_again(story: Story) -> None:
    for files in (story.after_interrupt, story.after_kill):
        for name, value in finished_files(files).items():
            assert story.end[name] == value, name


def test_the_run_survives_a_lost_worker(story: Story) -> None:
    assert story.killed_worker.startswith("ray::ingest_shard")
    assert story.last_code == 0, story.last_text


def test_the_end_is_byte_for_byte_that_of_an_undisturbed_run(story: Story, finished: Path) -> None:
    wanted = {name: content for name, (_, content) in files_of(finished).items()}
    found = {name: content for name, (_, content) in story.end.items()}
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []


def test_nothing_hidden_is_left_at_the_end(story: Story) -> None:
    assert [name for name in story.end if Path(name).name.startswith(".")] == []

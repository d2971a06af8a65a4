"""One ingest run that is interrupted three times: Ctrl-C, a killed driver, a killed worker."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from process_tree import command_line, descendants, parent_of
from waiting import HANG_S, wait_until

from audio_barlow_twins.shards.stored.verify import verify

ROOT = Path(__file__).parents[2]
SETS = ("wave", "logmel")
SLOW_TO_LEAVE = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Ray's own helpers: when the driver is killed they look for its cluster for about a minute."""
Files = dict[str, tuple[int, bytes]]
"""Time of the last change, ns, and content of each file by its relative path."""


@dataclass
class Story:
    """What happened, in order."""

    out: Path
    interrupted_code: int = 0
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

    def wait_for(self, what: Callable[[], object]) -> None:
        """Poll until `what` is true; it must become so before the command ends."""
        wait_until(what, self.process, self.log.read_text, every_s=0.03)

    def descendants(self) -> dict[int, str]:
        """List the command lines of all processes below the driver by process id."""
        return descendants(self.process.pid)


def still_there(before: dict[int, str], seconds: float = 60) -> list[str]:
    """Wait for processes to end; return the command lines of those that do not."""
    deadline = time.monotonic() + seconds
    while True:
        now = {pid: command_line(pid) for pid in before if parent_of(pid)}
        left = [line for pid, line in now.items() if is_of_ray(line) and is_of_ray(before[pid])]
        left = [line for line in left if not line.startswith(SLOW_TO_LEAVE)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def is_of_ray(line: str) -> bool:
    """Tell Ray's processes and our workers from a program that was given a process id again."""
    return "ray" in line or "ffmpeg" in line


def files_of(out: Path) -> Files:
    """Read every file below a folder and when it was changed."""
    return {
        str(path.relative_to(out)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def committed(out: Path) -> set[str]:
    """Name the shards that both sets have."""
    stems = [{path.stem for path in (out / name).glob("shard-*.parquet")} for name in SETS]
    return set.intersection(*stems)


def finished_files(files: Files) -> Files:
    """Keep the shards that have a sidecar, tar and sidecar."""
    sidecars = {Path(name).with_suffix("") for name in files if name.endswith(".parquet")}
    return {name: value for name, value in files.items() if Path(name).with_suffix("") in sidecars}


def live_through(command: list[str], environment: dict[str, str], folder: Path) -> Story:
    """Interrupt a run with Ctrl-C, kill the next, kill a worker of the third, and let it end."""
    told = Story(folder / "out")
    _interrupt(told, Driver(command, environment, folder / "1.log"))
    _kill(told, Driver(command, environment, folder / "2.log"))
    _lose_a_worker(told, Driver(command, environment, folder / "3.log"))
    return told


def _interrupt(told: Story, driver: Driver) -> None:
    driver.wait_for(lambda: committed(told.out))
    below = driver.descendants()
    os.killpg(driver.process.pid, signal.SIGINT)
    told.interrupted_code = driver.process.wait(HANG_S)
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
    told.last_code = driver.process.wait(HANG_S)
    told.last_text = driver.log.read_text()
    told.end = files_of(told.out)

"""Report a bench: crops/s of every way, and ratios with their goals."""

import json
import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from reader_clock import Heat, Way

from audio_barlow_twins.shards.base.cli import say

Rates = dict[tuple[str, int, Heat], list[float]]
"""Crops/s of each round by name of the way, DataLoader workers, and state of the files."""
PACKAGES = (
    "torch", "numpy", "webdataset", "megatron-energon", "lhotse", "litdata", "mosaicml-streaming",
    "datasets", "pyarrow", "ray",
)  # fmt: skip
BARE = "bare preadv loop, 1 thread"
OURS = "CropReader"
VIEWS = "one .npy a clip + views on CPU"


@dataclass(frozen=True)
class Ratio:
    """A ratio of warm rates with its goal."""

    of: str
    to: str
    goal: float
    values: list[float]
    """Ratio of each round; empty if one of the two was not measured."""

    @property
    def median(self) -> float:
        """Median over the rounds."""
        return float(np.median(self.values))

    def __str__(self) -> str:
        what = f"{self.of} / {self.to}"
        if not self.values:
            return f"{what}: not measured (goal {self.goal:g})"
        met = "met" if self.median >= self.goal else "NOT met"
        return (
            f"{what}: {self.median:.2f} ({min(self.values):.2f} to {max(self.values):.2f}), "
            f"goal {self.goal:g}: {met}"
        )


def best(rates: Rates, name: str, heat: Heat) -> tuple[int, list[float]]:
    """Return the number of workers with which a way is fastest, and its rates; (0, []) if none."""
    tried = {
        workers: values
        for (way, workers, state), values in rates.items()
        if (way, state) == (name, heat)
    }
    if not tried:
        return 0, []
    workers = max(tried, key=lambda n: float(np.median(tried[n])))
    return workers, tried[workers]


def ratios(rates: Rates, libraries: list[str]) -> list[Ratio]:
    """Return the ratios of each round, each way with its best number of workers."""
    measured = [name for name in libraries if best(rates, name, "warm")[1]]
    fastest = max(
        measured, key=lambda name: np.median(best(rates, name, "warm")[1]), default="libraries"
    )
    asked = [(OURS, fastest, 30.0), (OURS, VIEWS, 150.0), (OURS, BARE, 0.8)]
    return [
        Ratio(of, to, goal, [
            a / b for a, b in zip(best(rates, of, "warm")[1], best(rates, to, "warm")[1],
                                  strict=False)
        ])
        for of, to, goal in asked
    ]  # fmt: skip


def report(
    ways: list[Way], lacks: dict[str, str], rates: Rates, disk: list[float], out: Path | None
) -> None:
    """Print machine, rates and ratios, and write them to `out`.

    Args:
        ways: all ways, also those that could not run.
        lacks: what is not installed, by name of the way.
        rates: of the ways that ran.
        disk: MB/s of each round.
        out: a JSON file.
    """
    about = about_machine()
    say(", ".join(f"{name} {value}" for name, value in about.items()))
    if disk:
        say(f"cold files read in order: {np.median(disk):,.0f} MB/s")
    say(f"{'crops/s, median (range)':32s}{'warm files':>32s}{'cold files':>32s}")
    for way in ways:
        if way.name in lacks:
            say(f"{way.name:32s}  not installed: {lacks[way.name]}")
        else:
            say(f"{way.name:32s}{column(rates, way, 'warm')}{column(rates, way, 'cold')}")
    asked = ratios(rates, [way.name for way in ways if way.imports])
    for ratio in asked:
        say(str(ratio))
    if out:
        out.write_text(json.dumps({
            "machine": about,
            "crops_per_s": [
                {"way": name, "workers": workers, "files": heat, "rounds": values}
                for (name, workers, heat), values in rates.items()
            ],
            "not_installed": lacks,
            "disk_mb_per_s": disk,
            "ratios": [asdict(ratio) for ratio in asked],
        }, indent=1) + "\n")  # fmt: skip


def column(rates: Rates, way: Way, heat: Heat) -> str:
    """Format a way's rate with its best number of workers."""
    workers, values = best(rates, way.name, heat)
    if not values:
        return f"{'-':>32s}"
    text = f"{np.median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})"
    return f"{text + (f', {workers} w' if len(way.workers) > 1 else ''):>32s}"


def about_machine() -> dict[str, str]:
    """Return the machine and the versions of the installed packages."""
    cpus = {
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    }
    about = {"cpu": " / ".join(sorted(cpus)) or platform.machine(), "cores": str(os.cpu_count())}
    about["python"] = platform.python_version()
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            about[name] = version(name)
    return about

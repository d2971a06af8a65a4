"""Report a bench: crops/s of every way, and ratios with their goals."""

import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from reader_clock import Heat, Way
from reader_ours import BARE, LATENCY_S, OURS, OURS_VIEWS, THREADS, WAVES, bare_name

from audio_barlow_twins.shards.base.cli import say

Rates = dict[tuple[str, int, Heat], list[float]]
"""Crops/s of each round by name of the way, DataLoader workers, and state of the files."""
PACKAGES = (
    "torch", "numpy", "webdataset", "megatron-energon", "lhotse", "litdata", "mosaicml-streaming",
    "datasets", "pyarrow", "ray",
)  # fmt: skip
VIEWS = "one .npy a clip + views on CPU"


@dataclass
class Found:
    """What a bench measured; every list has a value for each round."""

    ways: list[Way]
    """All, also those that could not run."""
    lacks: dict[str, str]
    """What is not installed, by name of the way."""
    ahead: int
    """Batches that our reader reads ahead, as the preflight chose."""
    rates: Rates = field(default_factory=dict)
    disk: list[float] = field(default_factory=list)
    """Speed of cold files read in order, MB/s."""
    whole: list[float] = field(default_factory=list)
    """The same of our reader by whole shards."""
    stalls: dict[str, list[float]] = field(default_factory=dict)
    """The share of time that a network waits for cold files, by what it takes."""
    latency: dict[int, list[float]] = field(default_factory=dict)
    """Crops/s from storage of high latency by batches read ahead."""
    latency_ahead: list[int] = field(default_factory=list)
    """What the preflight chose there."""
    memory_mb: float = 0.0
    """Of a reader of `index_clips`."""
    index_clips: int = 0

    def best(self, name: str, heat: Heat) -> tuple[int, list[float]]:
        """Return with how many workers a way is fastest, and its rates; (0, []) if none."""
        tried = {
            workers: values
            for (way, workers, state), values in self.rates.items()
            if (way, state) == (name, heat)
        }
        if not tried:
            return 0, []
        workers = max(tried, key=lambda n: float(np.median(tried[n])))
        return workers, tried[workers]

    def median(self, name: str, heat: Heat) -> float:
        """Return a way's median rate, 0 if it was not measured."""
        return float(np.median(self.best(name, heat)[1] or [0.0]))

    def fastest(self, names: Sequence[str], heat: Heat) -> str:
        """Return the name of the fastest of some ways."""
        return max(names, key=lambda name: self.median(name, heat))


@dataclass(frozen=True)
class Ratio:
    """A ratio of rates, with its goal if it has one."""

    what: str
    goal: float
    """The least that was asked for; 0: nothing was."""
    values: list[float]
    """Ratio of each round; empty if one of the two was not measured."""

    @property
    def median(self) -> float:
        """Median over the rounds."""
        return float(np.median(self.values))

    def __str__(self) -> str:
        goal = f"goal {self.goal:g}" if self.goal else "no goal"
        if not self.values:
            return f"{self.what}: not measured ({goal})"
        met = (": met" if self.median >= self.goal else ": NOT met") if self.goal else ""
        spread = f"({min(self.values):.2f} to {max(self.values):.2f})"
        return f"{self.what}: {self.median:.2f} {spread}, {goal}{met}"


def ratios(found: Found) -> list[Ratio]:
    """Return the ratios of each round, each way with its best number of workers."""
    libraries = [way.name for way in found.ways if way.imports] or ["libraries"]

    def ratio(of: str, to: str, goal: float, state: Heat, to_state: Heat | None = None) -> Ratio:
        to_state = to_state or state
        pairs = zip(found.best(of, state)[1], found.best(to, to_state)[1], strict=False)
        beside = to if to_state == state else f"{to} ({to_state})"
        return Ratio(f"{state}: {of} / {beside}", goal, [a / b for a, b in pairs])

    def of_shards(suffix: str) -> Iterator[Ratio]:
        ours, loops = OURS + suffix, [bare_name(n) + suffix for n in THREADS]
        yield ratio(ours, BARE + suffix, 0.8, "warm")
        yield ratio(ours, BARE + suffix, 0.8, "warm, busy")
        yield ratio(ours, BARE + suffix, 0.0, "warm, busy", "warm")
        yield ratio(ours, found.fastest(loops, "cold"), 0.95, "cold")
        yield ratio(ours, found.fastest(loops, "cold, busy"), 0.95, "cold, busy")
        yield ratio(ours, found.fastest(loops, "cold"), 0.95, "cold, busy", "cold")

    in_order = [a / b for a, b in zip(found.whole, found.disk, strict=False)]
    return [
        *of_shards(""),
        ratio(OURS, found.fastest(libraries, "cold"), 1.0, "cold"),
        *of_shards(WAVES),
        Ratio("cold: whole shards / files in order, MB/s", 0.8, in_order),
        ratio(OURS, found.fastest(libraries, "warm"), 0.0, "warm"),
        ratio(OURS, "WebDataset, decode()", 0.0, "warm"),
        ratio(OURS, "WebDataset, select_files", 0.0, "warm"),
        ratio(OURS_VIEWS, VIEWS, 0.0, "warm"),
    ]


def report(found: Found, out: Path | None) -> None:
    """Print machine, rates and ratios, and write them to `out`, a JSON file."""
    about = about_machine()
    say(", ".join(f"{name} {value}" for name, value in about.items()))
    if found.disk:
        say(f"cold files read in order: {np.median(found.disk):,.0f} MB/s; batches that")
        say(f"{OURS} reads ahead, as the preflight chose: {found.ahead}")
    say(f"{'crops/s, median (range)':34s}{'warm files':>34s}{'cold files':>34s}")
    for way in found.ways:
        if way.name in found.lacks:
            say(f"{way.name:34s}  not installed: {found.lacks[way.name]}")
            continue
        say(f"{way.name:34s}{column(found, way, 'warm')}{column(found, way, 'cold')}")
        if way.busy:
            name = "   while Python is busy"
            say(f"{name:34s}{column(found, way, 'warm, busy')}{column(found, way, 'cold, busy')}")
    for line in (*map(str, ratios(found)), *our_lines(found)):
        say(line)
    if out:
        write(found, about, out)


def our_lines(found: Found) -> Iterator[str]:
    """Say what only our reader was asked."""
    for takes, waits in found.stalls.items():
        yield f"cold: a network that takes {takes} waits {100 * np.median(waits):.1f} %"
    for depth, rates in found.latency.items():
        yield (
            f"{1000 * LATENCY_S:g} ms a request, {depth} batches ahead: "
            f"{np.median(rates):,.0f} crops/s"
        )
    if found.latency_ahead:
        yield f"the preflight chose {', '.join(map(str, found.latency_ahead))} batches there"
    yield f"memory of a reader of a set of {found.index_clips:,} clips: {found.memory_mb:,.0f} MB"


def write(found: Found, about: dict[str, str], out: Path) -> None:
    """Write everything as JSON."""
    rows = [
        {"way": name, "workers": workers, "files": heat, "rounds": values}
        for (name, workers, heat), values in found.rates.items()
    ]
    rest = {
        name: getattr(found, name)
        for name in ("ahead", "disk", "whole", "stalls", "latency", "latency_ahead", "memory_mb")
    }
    out.write_text(json.dumps({
        "machine": about, "crops_per_s": rows, "not_installed": found.lacks, **rest,
        "ratios": [asdict(ratio) for ratio in ratios(found)],
    }, indent=1) + "\n")  # fmt: skip


def column(found: Found, way: Way, heat: Heat) -> str:
    """Format a way's rate with its best number of workers."""
    workers, values = found.best(way.name, heat)
    if not values:
        return f"{'-':>34s}"
    text = f"{np.median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})"
    return f"{text + (f', {workers} w' if len(way.workers) > 1 else ''):>34s}"


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

"""Compare the crop reader with other libraries, one file per clip, and bare preadv loops."""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import tyro
from reader_clock import Heat, Way, cool, heat, in_own_process, missing, time_cold, time_warm
from reader_figure import draw
from reader_files import BATCH, FRAMES, per_file_ways
from reader_libraries import library_ways
from reader_ours import (
    DEPTHS,
    OURS,
    depth_of_latency,
    in_order,
    our_ways,
    rate_of_latency,
    stall,
    tuned_ahead,
)
from reader_report import Found, report
from tqdm import tqdm

from audio_barlow_twins.shards.base.cli import run_command
from audio_barlow_twins.shards.stored.shardset import ShardSet
from audio_barlow_twins.shards.stored.synthetic import synthetic_shards
from audio_barlow_twins.shards.stored.writer import shard_name

NETWORK = 55_000.0
"""Crops/s that a fast GPU takes."""
SHARES = (0.8, 0.9)
"""Of the rate of cold files: what slower networks take."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure ways to read crops of 96 frames from synthetic float16 log-mels of 10 s."""

    clips: int = 8192
    """Synthetic clips to write, 128 KB each, in each format, and as waves of 320 KB."""
    rounds: int = 3
    """How often to time each way, in turn, in a fresh process; the median is reported."""
    seconds: float = 1.0
    """Length of one timing, s."""
    cold: bool = True
    """Also time files that are not in the page cache."""
    index_clips: int = 2_000_000
    """Clips in the index for measuring a reader's memory."""
    only: tuple[str, ...] = ()
    """Measure only the ways whose names contain one of these; by default all."""
    quick: bool = False
    """Run one short round on few clips, to show that everything works."""
    json: Path | None = None
    """Write every rate, ratio and version to this file."""
    figure: Path | None = None
    """Draw all rates to this file."""
    folder: Path | None = None
    """Where to write the clips, up to 3 MB each; by default the system's temporary folder."""

    def run(self) -> None:
        """Write the clips in every format, time all ways, print crops/s and ratios."""
        if self.quick:
            few = replace(self, clips=4096, rounds=1, seconds=0.1, index_clips=20_000, quick=False)
            few.run()
            return
        for out in (self.json, self.figure):
            if out:  # better now than after all rounds
                out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            root = Path(name)
            shard_set = synthetic_shards(root / "shards", self.clips)
            ahead = in_own_process(tuned_ahead, root / "shards") if self.cold else 4
            ways = [way for way in all_ways(shard_set, ahead) if self.wants(way)]
            lacks = {way.name: lack for way in ways if (lack := in_own_process(missing, way))}
            ready = [way for way in ways if way.name not in lacks]
            write_forms(ready, shard_set, root)
            found = Found(ways=ways, lacks=lacks, ahead=ahead)
            self.measure(ready, root, found)
            found.memory_mb = peak_memory(shard_set.folder, self.index_clips)
            found.index_clips = self.index_clips
        report(found, self.json)
        if self.figure:
            draw(found, self.figure)

    def wants(self, way: Way) -> bool:
        return not self.only or any(part in way.name for part in self.only)

    def measure(self, ways: list[Way], root: Path, found: Found) -> None:
        """Time every way in turn, round after round."""
        for number in range(self.rounds):
            for way in tqdm(ways, f"round {number + 1} of {self.rounds}", unit="way"):
                for workers in way.workers:
                    for state, rate in self.time(way, root / way.form, workers).items():
                        found.rates.setdefault((way.name, workers, state), []).append(rate)
            if self.cold:
                cool(root / "shards")
                found.disk.append(heat(root / "shards"))
            if self.cold and found.median(OURS, "cold"):
                self.measure_ours(root / "shards", found)

    def time(self, way: Way, folder: Path, workers: int) -> dict[Heat, float]:
        """Return crops/s from warm and cold files, in a fresh process each.

        Warm files are cooled first: what was read at random lies in memory in smaller pieces, from
        which the next way would read by up to a third more slowly.
        """
        rates: dict[Heat, float] = {}
        for busy in (False, True) if way.busy else (False,):
            job = (way, folder, workers, self.seconds, self.clips, busy)
            if self.cold:
                cool(folder)
            rates["warm, busy" if busy else "warm"] = in_own_process(time_warm, *job)
            if self.cold:
                rates["cold, busy" if busy else "cold"] = in_own_process(time_cold, *job)
        return rates

    def measure_ours(self, folder: Path, found: Found) -> None:
        """Ask our reader what no other is asked: whole shards, stalls, depths."""
        found.whole.append(in_own_process(in_order, folder))
        networks = {f"{NETWORK:,.0f} crops/s": NETWORK}
        for share in SHARES:
            networks[f"{share} of what comes"] = share * found.median(OURS, "cold")
        for takes, per_s in networks.items():
            waits = in_own_process(stall, folder, found.ahead, per_s, self.seconds)
            found.stalls.setdefault(takes, []).append(waits)
        for depth in DEPTHS:
            rate = in_own_process(rate_of_latency, folder, depth)
            found.latency.setdefault(depth, []).append(rate)
        found.latency_ahead.append(in_own_process(depth_of_latency, folder))


def all_ways(shard_set: ShardSet, ahead: int) -> list[Way]:
    """Return every way, ours last."""
    statistics = shard_set.statistics
    return [*library_ways(), *per_file_ways(statistics.mean, statistics.std), *our_ways(ahead)]


def write_forms(ways: list[Way], shard_set: ShardSet, root: Path) -> None:
    """Write the clips once in every format that a way reads."""
    for form, write in {way.form: way.write for way in ways}.items():
        (root / form).mkdir(exist_ok=True)
        in_own_process(write, shard_set, root / form)


def peak_memory(folder: Path, n_clips: int) -> float:
    """Open an index of `n_clips` in a fresh process, read 100 batches; return its peak RSS, MB."""
    big = folder / "big"
    big.mkdir()
    name = shard_name(0)
    table = pq.read_table(folder / f"{name}.parquet")
    repeats, copies = 64, -(-n_clips // (64 * len(table)))
    footer = {**(table.schema.metadata or {}), b"n_ok": str(repeats * len(table)).encode()}
    table = table.replace_schema_metadata(footer)
    for number in range(copies):
        (big / f"{shard_name(number)}.tar").symlink_to(folder / f"{name}.tar")
        with pq.ParquetWriter(big / f"{shard_name(number)}.parquet", table.schema) as writer:
            for _ in range(repeats):
                writer.write_table(table)
    code = (
        "import json, resource, sys\n"
        "from audio_barlow_twins.shards.read.reader import CropReader\n"
        f"reader = CropReader(sys.argv[1], frames={FRAMES}, batch={BATCH})\n"
        "total = sum(len(batch.crops) for batch in reader.batches(0, 100))\n"
        "rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "print(json.dumps([len(reader.shard_set), rss]))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(big)], capture_output=True, text=True, check=True
    )
    clips, rss = json.loads(out.stdout)
    if clips < n_clips:
        raise RuntimeError(f"the synthetic index has {clips} clips, wanted {n_clips}")
    return rss


if __name__ == "__main__":
    run_command(lambda: tyro.cli(Bench).run())

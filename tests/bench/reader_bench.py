"""Compare the crop reader with other libraries, one file per clip, and a bare preadv loop."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import tyro
from reader_clock import Way, cool, heat, in_own_process, missing, time_cold, time_warm
from reader_files import BATCH, FRAMES, per_file_ways
from reader_libraries import library_ways
from reader_report import BARE, OURS, Rates, report
from reader_tars import keep_shards
from torch import Tensor

from audio_barlow_twins.shards.base.cli import run_command, say
from audio_barlow_twins.shards.read.local import read_at_random
from audio_barlow_twins.shards.read.reader import CropReader
from audio_barlow_twins.shards.stored.shardset import ShardSet, open_shards
from audio_barlow_twins.shards.stored.synthetic import synthetic_shards
from audio_barlow_twins.shards.stored.writer import shard_name

PLAN_STEPS = 4096
"""Steps after which the bare loop starts over: fewer crops would stay in the CPU's cache."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure ways to read crops of 96 frames from synthetic float16 log-mels of 10 s."""

    clips: int = 8192
    """Synthetic clips to write, 128 KB each, in each of eight formats."""
    rounds: int = 3
    """How often to time each way, in turn, in a fresh process; the median is reported."""
    seconds: float = 2.0
    """Length of one timing, s; with cold files, it ends after one pass at the latest."""
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
    folder: Path | None = None
    """Where to write the clips; by default the system's temporary folder."""

    def run(self) -> None:
        """Write the clips in every format, time all ways, print crops/s and ratios."""
        if self.quick:
            few = replace(self, clips=1536, rounds=1, seconds=0.1, index_clips=20_000, quick=False)
            few.run()
            return
        with tempfile.TemporaryDirectory(dir=self.folder) as root:
            shard_set = synthetic_shards(Path(root) / "shards", self.clips)
            ways = [way for way in all_ways(shard_set) if self.wants(way)]
            lacks = {way.name: lack for way in ways if (lack := in_own_process(missing, way))}
            ready = [way for way in ways if way.name not in lacks]
            write_forms(ready, shard_set, Path(root))
            rates, disk = self.measure(ready, Path(root))
            report(ways, lacks, rates, disk, self.json)
            rss = peak_memory(shard_set.folder, self.index_clips)
        say(f"memory of a reader of a set of {self.index_clips:,} clips: {rss:,.0f} MB")

    def wants(self, way: Way) -> bool:
        return not self.only or any(part in way.name for part in self.only)

    def measure(self, ways: list[Way], root: Path) -> tuple[Rates, list[float]]:
        """Time every way in turn; return crops/s by (way, workers, heat), and the disk's MB/s."""
        rates: Rates = {}
        disk: list[float] = []
        for _ in range(self.rounds):
            if self.cold:
                cool(root / "shards")
                disk.append(heat(root / "shards"))
            for way in ways:
                for workers in way.workers:
                    job = (way, root / way.form, workers, self.seconds)
                    warm = in_own_process(time_warm, *job)
                    rates.setdefault((way.name, workers, "warm"), []).append(warm)
                    if self.cold:
                        cold = in_own_process(time_cold, *job, self.clips)
                        rates.setdefault((way.name, workers, "cold"), []).append(cold)
        return rates, disk


def all_ways(shard_set: ShardSet) -> list[Way]:
    """Return every way, ours last."""
    return [
        *library_ways(),
        *per_file_ways(shard_set.statistics.mean, shard_set.statistics.std),
        Way(name=BARE, form="shards", write=keep_shards, batches=bare_loop, workers=(0,)),
        Way(name=OURS, form="shards", write=keep_shards, batches=crop_reader, workers=(0,)),
    ]  # fmt: skip


def write_forms(ways: list[Way], shard_set: ShardSet, root: Path) -> None:
    """Write the clips once in every format that a way reads."""
    for form, write in {way.form: way.write for way in ways}.items():
        (root / form).mkdir(exist_ok=True)
        in_own_process(write, shard_set, root / form)


def bare_loop(folder: Path, workers: int) -> Iterator[Tensor]:
    """Yield the reader's crops in its order from a plain loop with one batch buffer, endlessly."""
    shard_set = open_shards(folder)
    reader = CropReader(shard_set, frames=FRAMES, batch=BATCH)
    files = [os.open(folder / f"{name}.tar", os.O_RDONLY) for name in shard_set.names]
    for file in files:
        read_at_random(file)
    batch = torch.empty(BATCH, FRAMES, *shard_set.form.frame_shape, dtype=torch.float16)
    flat = memoryview(batch.view(BATCH, -1).numpy().data).cast("B")
    rows = [flat[i * reader.crop_bytes :][: reader.crop_bytes] for i in range(BATCH)]
    crops = reader.order.crops(np.arange(PLAN_STEPS * BATCH))
    of_step = (PLAN_STEPS, BATCH)
    chosen = np.array(files)[crops.shards].reshape(of_step).tolist()
    plan = list(zip(chosen, crops.offsets.reshape(of_step).tolist(), strict=True))
    for batch_files, batch_offsets in cycle(plan):
        for file, row, offset in zip(batch_files, rows, batch_offsets, strict=True):
            os.preadv(file, (row,), offset)
        yield batch


def crop_reader(folder: Path, workers: int) -> Iterator[Tensor]:
    """Return the endless batches of our reader."""
    reader = CropReader(folder, frames=FRAMES, batch=BATCH)
    return (batch.crops for batch in reader.batches())


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

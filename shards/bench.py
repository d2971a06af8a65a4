"""Measure the crop reader beside a stock WebDataset pipeline and a bare preadv loop, in one run."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from shards.cli import say
from shards.form import logmel_form
from shards.logmel import FrontEnd
from shards.reader import CropReader
from shards.shardset import ShardSet, open_shards
from shards.sidecar import Row
from shards.writer import shard_name, writing_shard

FRAMES = 96
BATCH = 128


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure readers on synthetic shards (float16 log-mel, 10 s clips, crops of 96 frames)."""

    clips: int = 2048
    """Synthetic clips to write (128 KB each); they fit in memory, so files are warm."""
    rounds: int = 5
    """Each reader is timed this often, in turn; the median counts."""
    seconds: float = 2.0
    """Length of one timing, s."""
    folder: Path | None = None
    """Where to write the synthetic shards; default: the system's temporary folder."""

    def run(self) -> None:
        """Write the shards, time every reader, print crops/s and ratios."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            shard_set = synthetic_shards(Path(folder), self.clips)
            readers: dict[str, Callable[[], Iterator[int]]] = {
                "stock WebDataset": lambda: stock_webdataset(shard_set),
                "bare preadv loop, 1 thread": lambda: bare_loop(shard_set),
                "CropReader, 1 thread": lambda: crop_reader(shard_set, threads=1),
                "CropReader, 4 threads": lambda: crop_reader(shard_set, threads=4),
            }
            rates = measure(readers, self.rounds, self.seconds)
            report(rates)
            rss = peak_memory(Path(folder), n_clips=2_000_000)
        say(f"memory of a process that reads from an index of 2,000,000 clips: {rss:,.0f} MB")


def synthetic_shards(folder: Path, clips: int, per_shard: int = 256) -> ShardSet:
    """Write noise as a shard set of 10 s clips."""
    form = logmel_form(FrontEnd())
    rng = np.random.default_rng(0)
    for number, begin in enumerate(range(0, clips, per_shard)):
        with writing_shard(folder, shard_name(number), form, plan="bench") as writer:
            for clip in range(begin, min(begin + per_shard, clips)):
                values = rng.standard_normal((1001, 64), dtype=np.float32).astype(np.float16)
                writer.add(_row(clip), values)
    return open_shards(folder)


def _row(clip: int) -> Row:
    return Row(
        key=f"clip{clip:07d}", status="ok", source="noise", source_version="numpy",
        origin=str(clip), labels=[],
    )  # fmt: skip


def measure(
    readers: dict[str, Callable[[], Iterator[int]]], rounds: int, seconds: float
) -> dict[str, float]:
    """Time all readers in turn, `rounds` times; return median crops/s of each."""
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(rounds):
        for name, make in readers.items():
            stream = make()
            sum(islice(stream, 8))  # start threads, open files
            begin, crops = time.perf_counter(), 0
            while (elapsed := time.perf_counter() - begin) < seconds:
                crops += next(stream)
            rates[name].append(crops / elapsed)
    return {name: float(np.median(values)) for name, values in rates.items()}


def stock_webdataset(shard_set: ShardSet) -> Iterator[int]:
    """Read, decode and crop as WebDataset's documentation shows; yield crops per batch."""
    import webdataset

    urls = [str(shard_set.folder / f"{name}.tar") for name in shard_set.names]
    rng = np.random.default_rng(0)

    def crop(sample: tuple[np.ndarray]) -> np.ndarray:
        start = rng.integers(len(sample[0]) - FRAMES + 1)
        return sample[0][start : start + FRAMES]

    data = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=0).shuffle(1000, initial=100)
    for batch in data.repeat().decode().to_tuple("npy").map(crop).batched(BATCH):
        yield len(batch)


def bare_loop(shard_set: ShardSet) -> Iterator[int]:
    """Read the same crops in the same order in a plain loop into one batch buffer."""
    reader = CropReader(shard_set, frames=FRAMES, batch=BATCH)
    files = [os.open(shard_set.folder / f"{name}.tar", os.O_RDONLY) for name in shard_set.names]
    buffer = memoryview(bytearray(BATCH * reader.crop_bytes))
    rows = [buffer[i * reader.crop_bytes :][: reader.crop_bytes] for i in range(BATCH)]
    plan = []
    for step in range(len(shard_set) // BATCH):
        epochs, clips = reader.order.clips(np.arange(step * BATCH, (step + 1) * BATCH))
        starts = reader.order.starts(epochs, clips)
        offsets = shard_set.offsets[clips] + starts * shard_set.form.frame_bytes
        plan.append(([files[i] for i in shard_set.shard_of(clips)], offsets.tolist()))
    for batch_files, batch_offsets in cycle(plan):
        for file, row, offset in zip(batch_files, rows, batch_offsets, strict=True):
            os.preadv(file, (row,), offset)
        yield BATCH


def crop_reader(shard_set: ShardSet, threads: int) -> Iterator[int]:
    """Read with our reader, order and buffers included."""
    reader = CropReader(shard_set, frames=FRAMES, batch=BATCH, threads=threads)
    return (len(batch.crops) for batch in reader.batches())


def report(rates: dict[str, float]) -> None:
    """Print crops/s and the two ratios that count."""
    say(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}; warm files, "
        f"crops of {FRAMES} x 64 float16 (12 KB), batch {BATCH}")  # fmt: skip
    stock, bare = rates["stock WebDataset"], rates["bare preadv loop, 1 thread"]
    for name, rate in rates.items():
        say(f"{name:28s} {rate:10,.0f} crops/s  {rate / stock:7.1f} x stock"
            f"  {rate / bare:5.2f} x bare loop")  # fmt: skip


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
        "from shards.reader import CropReader\n"
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

"""Compare the whole ingest stage with bare ffmpeg processes on the same files, in one run."""

import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tyro
from slow_source import overlap

from audio_barlow_twins.ingest.sources.demo.corpus import HERE
from audio_barlow_twins.ingest.sources.folder import folder_clips
from audio_barlow_twins.ingest.stage.plan import Plan
from audio_barlow_twins.ingest.stage.stage import Job, ingest
from audio_barlow_twins.shards.base.cli import run_command, say
from audio_barlow_twins.shards.cluster.fan_out import cluster
from audio_barlow_twins.shards.decode.ffmpeg import decoder_version, ffmpeg_path
from audio_barlow_twins.shards.decode.sound import DecodeLimits
from audio_barlow_twins.shards.stored.front_end import FrontEnd

SECONDS = 10
FORMATS: dict[str, tuple[str, ...]] = {
    "m4a": ("-ar", "44100", "-c:a", "aac", "-b:a", "128k"),
    "opus": ("-ar", "48000", "-c:a", "libopus", "-b:a", "128k"),
}
"""What YouTube serves as its best audio, and how to make it."""
DIFFERENT = 32
"""Files to encode in each format; further files are copies."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure decode, resample, log-mel and both shard sets on 10 s of m4a and opus."""

    files: int = 256
    """Files of each format; they must fit in memory to be read warm."""
    rounds: int = 5
    """How often to time each way, in turn; the median is reported."""
    slots: int = 2
    """Processes at a time, for ffmpeg and for the stage."""
    at_once: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Numbers of concurrent downloads for each slot to try, with a server that answers late."""
    answer_s: float = 2.0
    """Delay of that server's answers, s."""
    folder: Path | None = None
    """Where to write files and shards; by default the system's temporary folder."""

    def run(self) -> None:
        """Print clips/s of both ways and their ratio for each format."""
        say(f"{platform.machine()}, {os.cpu_count()} cores, {decoder_version()}; {self.files} warm "
            f"files of {SECONDS} s a format, {self.slots} at a time")  # fmt: skip
        with tempfile.TemporaryDirectory(dir=self.folder) as folder, cluster(self.slots):
            for ending, rates in bench(Path(folder), self.files, self.rounds, self.slots).items():
                bare, stage = (float(np.median(rates[way])) for way in ("bare", "stage"))
                ratios = sorted(s / b for s, b in zip(rates["stage"], rates["bare"], strict=True))
                say(f"{ending:5s} bare ffmpeg {bare:7.1f} clips/s   stage {stage:7.1f} clips/s   "
                    f"{np.median(ratios):.2f} of bare ffmpeg "
                    f"({ratios[0]:.2f} to {ratios[-1]:.2f})")  # fmt: skip
            paths = sorted((Path(folder) / "m4a").glob("*.m4a"))
            for at_once in self.at_once:
                rate, most = overlap(paths, Path(folder), self.slots, self.answer_s, at_once)
                say(f"answers after {self.answer_s:g} s, {self.slots} x {at_once} at once: "
                    f"{rate:6.1f} clips/s, {rate / most:.2f} of {most:g}")  # fmt: skip


def bench(folder: Path, files: int, rounds: int, slots: int) -> dict[str, dict[str, list[float]]]:
    """Time both ways in turn on every format; return clips/s of each round by format and way.

    Ray and its workers run before the timing, which lasts from the plan of the stage to its last
    commit. Bare ffmpeg decodes, resamples with its own resampler and writes PCM16 into a pipe;
    nothing is stored.
    """
    rates: dict[str, dict[str, list[float]]] = {}
    for ending in FORMATS:
        paths = encoded_files(folder / ending, ending, files)
        ways: dict[str, Callable[[], None]] = {
            "bare": partial(bare_ffmpeg, paths, slots),
            "stage": partial(stage, folder / ending, slots),
        }
        for run in ways.values():
            run()  # files into memory, workers started
        rates[ending] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, run in ways.items():
                begin = time.perf_counter()
                run()
                rates[ending][way].append(files / (time.perf_counter() - begin))
    return rates


def encoded_files(folder: Path, ending: str, files: int) -> list[Path]:
    """Loop demo sounds to 10 s of stereo and encode them."""
    folder.mkdir(parents=True)
    sources = sorted((HERE / "audio").rglob("*.opus"))
    paths = [folder / f"{number:05d}.{ending}" for number in range(files)]
    for number, path in enumerate(paths):
        if number < DIFFERENT:
            source = sources[number * len(sources) // DIFFERENT]
            loop = ("-stream_loop", "-1", "-i", str(source), "-t", str(SECONDS), "-ac", "2")
            command = [ffmpeg_path(), "-nostdin", "-v", "error", *loop, *FORMATS[ending]]
            subprocess.run([*command, str(path)], check=True)
        else:
            shutil.copyfile(paths[number % DIFFERENT], path)
    return paths


def bare_ffmpeg(paths: list[Path], slots: int) -> None:
    """Decode and resample every file with a plain command, `slots` processes at a time."""
    wanted = ("-ac", "1", "-ar", "16000", "-f", "s16le", "pipe:1")

    def run(path: Path) -> None:
        command = [ffmpeg_path(), "-nostdin", "-v", "error", "-i", str(path), *wanted]
        subprocess.run(command, check=True, capture_output=True)

    with ThreadPoolExecutor(slots) as pool:
        list(pool.map(run, paths))


def stage(root: Path, slots: int) -> None:
    """Ingest every file of a folder into new wave and log-mel sets, as many shards as slots."""
    with tempfile.TemporaryDirectory(dir=root.parent) as out:
        job = Job(out=Path(out), front_end=FrontEnd(), limits=DecodeLimits())
        clips = folder_clips(root)
        outcomes = ingest(job, Plan("folder", clips, -(-len(clips) // slots)), slots)
    if outcomes.keys() != {"ok"}:
        raise RuntimeError(f"not every clip was stored: {dict(outcomes)}")


if __name__ == "__main__":
    run_command(lambda: tyro.cli(Bench).run())

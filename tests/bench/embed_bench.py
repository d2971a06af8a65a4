"""Compare the embedding of sound files with the encoder's bare forward on the same clips."""

import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile
import torch
import tyro
from tyro.conf import Positional

from audio_barlow_twins.eval.embed.files import embed_files, log_mel_of, passes, read_ahead
from audio_barlow_twins.eval.sound.audio import find_audio
from audio_barlow_twins.model.embedder import Embedder, frozen, read_checkpoint
from audio_barlow_twins.model.encoders import ENCODERS, build_encoder
from audio_barlow_twins.shards.base.cli import run_command, say
from audio_barlow_twins.shards.base.device import on_device
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.front_end import FrontEnd

GOAL = 0.8


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Compare the embedding of sound files with the encoder's bare forward on the same clips."""

    files: Positional[tuple[Path, ...]] = ()
    """Sound files, or folders to search for them; by default synthetic files."""
    checkpoint: Path | None = None
    """Checkpoint that `abt train` wrote; by default random weights."""
    encoder: str = "audiontt"
    """Encoder to measure with random weights; `abt model` lists them."""
    clips: int = 64
    """How many synthetic clips to write."""
    seconds: float = 10.0
    """Length of a synthetic clip, s."""
    rounds: int = 5
    """How often to time both in turn; the medians are reported."""
    device: str | None = None
    """Where to compute, such as cpu or cuda:1; by default a GPU if there is one."""

    def __post_init__(self) -> None:
        if min(self.clips, self.rounds) < 1 or not 0 < self.seconds <= 600:
            raise UserError("--clips and --rounds must be at least 1, --seconds in (0, 600]")
        if self.encoder not in ENCODERS:
            raise UserError(f"no encoder is called {self.encoder!r}; choose from `abt model`")

    def run(self) -> None:
        model = benched_model(self)
        with tempfile.TemporaryDirectory() as folder:
            files = find_audio(self.files) or noise_files(
                Path(folder), self.clips, self.seconds, model.sample_rate
            )
            extraction, bare, heard_s = measure(files, model, self.rounds)
        machine = f"{platform.machine()}, {os.cpu_count()} cores"
        device = (
            torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else machine
        )
        say(f"{device}, torch {torch.__version__}, {torch.get_num_threads()} threads; {len(files)} "
            f"clips, {heard_s:.0f} s of sound, warm files; medians of {self.rounds}")  # fmt: skip
        for name, seconds in (("files to embeddings", extraction), ("bare encoder forward", bare)):
            clips, speed = len(files) / seconds, heard_s / seconds
            say(f"{name:22s} {clips:8.1f} clips/s {speed:9.0f} x real time")
        ratio = bare / extraction
        verdict = "met" if ratio >= GOAL else "missed"
        say(f"{'ratio':22s} {ratio:8.2f}         goal {GOAL}: {verdict}")


def benched_model(config: Bench) -> Embedder:
    """Load the checkpoint, or build the encoder with random weights, which take as long."""
    if config.checkpoint is not None:
        return frozen(read_checkpoint(config.checkpoint), config.device)
    encoder: Any = build_encoder(config.encoder, {})
    model = Embedder(encoder, encoder.out_features, FrontEnd(), mean=-4.95, std=5.855)
    return on_device(model, config.device)


def noise_files(folder: Path, count: int, seconds: float, sample_rate: int) -> list[Path]:
    """Write clips of noise as 16-bit WAV files."""
    rng = np.random.default_rng(0)
    files = [folder / f"{i:05d}.wav" for i in range(count)]
    for file in files:
        soundfile.write(file, rng.uniform(-0.5, 0.5, round(seconds * sample_rate)), sample_rate)
    return files


def measure(files: Sequence[Path], model: Embedder, rounds: int) -> tuple[float, float, float]:
    """Time both in turn.

    The bare forward gets log-mels that are already on the device, in the same passes.

    Returns:
        Median seconds of files to embeddings and of the bare forward, and seconds of sound.
    """
    inputs, heard = [], 0
    for part in passes(read_ahead(files, model.sample_rate), model):
        inputs.append(log_mel_of(part, model))
        heard += sum(len(sound.wave) for _, sound in part)

    def extract() -> None:
        for _ in embed_files(files, model):
            pass

    def forward() -> None:
        for log_mel in inputs:
            model.encode(log_mel).cpu()

    taken: dict[Callable[[], None], list[float]] = {extract: [], forward: []}
    for run in (extract, forward):  # to warm up
        run()
    for _ in range(rounds):
        for run, seconds in taken.items():
            begin = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - begin)
    return median(taken[extract]), median(taken[forward]), heard / model.sample_rate


if __name__ == "__main__":
    run_command(lambda: tyro.cli(Bench).run())

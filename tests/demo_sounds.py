"""Sounds of the demo corpus, read by libsndfile."""

from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch

DEMO = Path(__file__).parents[1] / "ingest" / "sources" / "demo" / "audio"


def demo_wave(path: Path, seconds: float = 1.0) -> np.ndarray:
    """Read a demo sound as float32 at 16 kHz, cut or padded with zeros to `seconds`."""
    wave, rate = soundfile.read(path, dtype="float32")
    wave = soxr.resample(wave, rate, 16000)[: round(seconds * 16000)]
    return np.pad(wave, (0, round(seconds * 16000) - len(wave)))


def demo_batch(count: int) -> torch.Tensor:
    """Read some different demo sounds, float32 [count, 16000]."""
    files = sorted(DEMO.glob("*/*.opus"))
    waves = [demo_wave(files[i * len(files) // count]) for i in range(count)]
    return torch.from_numpy(np.stack(waves))

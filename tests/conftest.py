"""What every room's tests share: the Hypothesis profile and the demo corpus as samples."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import settings

# The first call into torch is slow, which a deadline takes for a failure.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

DEMO_AUDIO = Path(__file__).parents[1] / "ingest" / "demo" / "audio"


@pytest.fixture(scope="session")
def demo_waves() -> dict[str, np.ndarray]:
    """All demo clips by name, int16 [samples] at 16 kHz; decoded by libsndfile, not by ingest."""
    waves = {}
    for path in sorted(DEMO_AUDIO.rglob("*.opus")):
        wave, sample_rate = soundfile.read(path, dtype="float32")
        wave = soxr.resample(wave, sample_rate, 16000)
        waves[path.stem] = np.clip(np.rint(wave * 32768), -32768, 32767).astype(np.int16)
    return waves

"""What every room's tests share: Hypothesis profile, demo corpus as samples, an S3 server."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import settings

from audio_barlow_twins.model.checkpoint import Checkpoint, save_checkpoint
from audio_barlow_twins.model.embedder import Embedder, load_model
from audio_barlow_twins.model.encoders import build_encoder
from audio_barlow_twins.shards.stored.front_end import FrontEnd

if TYPE_CHECKING:
    from s3_server import S3Server

# The tests of a GPU run where not all libraries are, so fixtures import what only they need.

# The first call into torch is slow, which a deadline takes for a failure.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

SIZES: dict[str, int | float] = {"width": 64, "channels": 8}
DEMO_AUDIO = Path(__file__).parents[1] / "ingest" / "sources" / "demo" / "audio"


LONG = (
    "test_cluster_story",
    "test_stage",
    "test_ray_train",
    "test_memory",
    "test_ablation",
    "test_lost_worker",
    "test_runner",
    "test_step",
    "test_reader_bench",
    "test_evaluate",
    "test_given_back",
)
"""Files that take longest: several processes at a time begin with them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files."""
    rank = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONG)))


@pytest.fixture(scope="session")
def demo_waves() -> dict[str, np.ndarray]:
    """All demo clips by name, int16 [samples] at 16 kHz; decoded by libsndfile, not by ingest."""
    import soundfile
    import soxr

    waves = {}
    for path in sorted(DEMO_AUDIO.rglob("*.opus")):
        wave, sample_rate = soundfile.read(path, dtype="float32")
        wave = soxr.resample(wave, sample_rate, 16000)
        waves[path.stem] = np.clip(np.rint(wave * 32768), -32768, 32767).astype(np.int16)
    return waves


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[S3Server]":
    """Run an S3 server for the session, found by the environment of this process and its own."""
    import fsspec
    from s3_server import serving_s3

    with (
        serving_s3(tmp_path_factory.mktemp("s3")) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in server.environment.items():
            patch.setenv(name, value)
        patch.delenv("AWS_PROFILE", raising=False)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield server
        fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture(scope="session")
def ffmpeg() -> Callable[..., None]:
    """Return a function that runs the real ffmpeg with arguments."""

    from audio_barlow_twins.shards.decode.ffmpeg import ffmpeg_path

    def run(*arguments: str | Path) -> None:
        command = [ffmpeg_path(), "-nostdin", "-y", "-v", "error", *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True)

    return run


@pytest.fixture
def before_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return a function that lets the decoder run a line of shell before ffmpeg.

    It returns the file `$LOG`, which gets an empty line at each run.
    """
    from audio_barlow_twins.shards.decode import ffmpeg

    def put(line: str) -> Path:
        log, script = tmp_path / "runs", tmp_path / "before_ffmpeg"
        real = ffmpeg.ffmpeg_path()
        script.write_text(f'#!/bin/sh\nLOG="{log}"\necho >> "$LOG"\n{line}\nexec "{real}" "$@"\n')
        script.chmod(0o755)
        monkeypatch.setattr(ffmpeg, "ffmpeg_path", lambda: str(script))
        return log

    return put


@pytest.fixture(scope="session")
def tone() -> Callable[..., np.ndarray]:
    """Return a function that makes a sine of amplitude 0.5 with a little noise, float32."""

    def make(seconds: float, rate: int = 16000, hz: float = 440.0) -> np.ndarray:
        t = np.arange(round(seconds * rate)) / rate
        noise = np.random.default_rng(0).standard_normal(len(t))
        return (0.5 * np.sin(2 * np.pi * hz * t) + 0.01 * noise).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        encoder = build_encoder("audiontt", SIZES)
    return Checkpoint(
        encoder="audiontt",
        sizes=SIZES,
        state=encoder.state_dict(),
        front_end=FrontEnd().parameters(),
        mean=-4.95,
        std=5.855,
        fingerprint="f" * 32,
        step=3,
        training=None,
    )


@pytest.fixture(scope="session")
def checkpoint_path(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "encoder.pt"
    save_checkpoint(path, checkpoint)
    return path


@pytest.fixture(scope="session")
def hear_model(checkpoint_path: Path) -> Embedder:
    return load_model(str(checkpoint_path), device="cpu")


@pytest.fixture(scope="session")
def sounds() -> torch.Tensor:
    from demo_sounds import demo_batch

    return demo_batch(4)

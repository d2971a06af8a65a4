"""A tree of real clips, bad files and odd names, and real runs of the stage over it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from interrupted_run import Story, live_through
from waiting import HANG_S

from audio_barlow_twins.ingest.sources.demo.corpus import HERE
from audio_barlow_twins.ingest.stage.plan import Plan

ROOT = Path(__file__).parents[2]
SHARD_CLIPS = 8


@pytest.fixture(scope="session")
def bad_files() -> dict[str, str]:
    """Return the bad files of the tree and what their rows must say."""
    return {
        "bad/empty.wav": "ffmpeg cannot decode it: Error opening input",
        "bad/text.wav": "ffmpeg cannot decode it: Error opening input",
        "bad/bytes.mp3": "ffmpeg cannot decode it: ",
        "bad/cut.flac": "ffmpeg cannot decode it: invalid residual",
        "bad/picture.mp4": "ffmpeg cannot decode it: Stream map '' matches no streams",
        "bad/silent.wav": "silent: every sample is zero",
        "bad/short.wav": "too short: 512 samples at 16 kHz, wanted 513",
        "bad/nan.wav": "the file holds samples that are not numbers",
        "bad/long.wav": "longer than 20 s; cut it into clips",
    }


@pytest.fixture(scope="session")
def odd_names() -> dict[bytes, str]:
    """Return file names that are hard to carry, and the origin that each must have."""
    return {
        b"odd/-dash: 50%.wav": "odd/-dash: 50%.wav",
        "odd/Grüße 漢.wav".encode(): "odd/Grüße 漢.wav",
        b"odd/two\nlines.wav": "odd/two\nlines.wav",
        b"odd/caf\xe9.wav": "odd/caf\\xe9.wav",
        b"odd/a.b.wav": "odd/a.b.wav",
    }


@pytest.fixture(scope="session")
def tree(
    tmp_path_factory: pytest.TempPathFactory,
    ffmpeg: Callable[..., None],
    tone: Callable[..., np.ndarray],
    odd_names: dict[bytes, str],
) -> Path:
    """Make a folder of about a hundred good clips and every kind of bad file."""
    root = tmp_path_factory.mktemp("tree")
    for name in ("bass", "bell", "blip", "cymbal", "guitar", "hit", "pickup", "tabla"):
        shutil.copytree(HERE / "audio" / name, root / name)
    (root / "notes.txt").write_text("not audio\n")
    (root / "bad").mkdir()
    (root / "odd").mkdir()
    _write_bad(root / "bad", ffmpeg, tone)
    soundfile.write(root / "plain.wav", tone(1.0), 16000)
    for name in odd_names:
        shutil.copyfile(root / "plain.wav", os.fsencode(root) + b"/" + name)
    return root


def _write_bad(folder: Path, ffmpeg: Callable[..., None], tone: Callable[..., np.ndarray]) -> None:
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("this is a text\n" * 100)
    (folder / "bytes.mp3").write_bytes(np.random.default_rng(1).bytes(50_000))
    soundfile.write(folder / "cut.flac", tone(3.0, 44100), 44100)
    whole = (folder / "cut.flac").read_bytes()
    (folder / "cut.flac").write_bytes(whole[: len(whole) // 2])
    ffmpeg("-f", "lavfi", "-i", "testsrc=duration=1", folder / "picture.mp4")
    soundfile.write(folder / "silent.wav", np.zeros(16000, np.float32), 16000)
    soundfile.write(folder / "short.wav", tone(512 / 16000), 16000)
    soundfile.write(folder / "long.wav", tone(20.001), 16000)
    broken = tone(1.0)
    broken[100] = np.nan
    soundfile.write(folder / "nan.wav", broken, 16000, subtype="FLOAT")


@pytest.fixture(scope="session")
def ingest_command(tree: Path) -> Callable[..., list[str]]:
    """Return a function that writes the command line for one output folder."""

    def command(out: Path, *more: str) -> list[str]:
        given = [str(tree), "--out", str(out), "--shard-clips", str(SHARD_CLIPS)]
        return [
            *(sys.executable, "-m", "audio_barlow_twins", "ingest", "folder", *given),
            *("--slots", "2", "--max-s", "20", *more),
        ]

    return command


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Return the variables of a child process: no foreign cluster, one thread a process."""
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return kept | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def run_command(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs one command line to its end."""

    def run(command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=HANG_S
        )

    return run


@pytest.fixture(scope="session")
def story(
    tmp_path_factory: pytest.TempPathFactory,
    ingest_command: Callable[..., list[str]],
    environment: dict[str, str],
) -> Story:
    """Ingest the tree with three interruptions on the way."""
    folder = tmp_path_factory.mktemp("story")
    return live_through(ingest_command(folder / "out"), environment, folder)


@pytest.fixture(scope="session")
def finished(story: Story) -> Path:
    """Return the output folder of the run once it has ended."""
    assert story.last_code == 0, story.last_text
    return story.out


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tree: Path) -> Path:
    """Make the same sets in this process, one shard after the other, without Ray."""
    from audio_barlow_twins.ingest.run import Ingest, command_of
    from audio_barlow_twins.ingest.stage.stage import ingest_shard

    folder: Any = command_of(Ingest, "folder")
    out = tmp_path_factory.mktemp("undisturbed")
    job, clips = folder(root=tree, out=str(out), max_s=20).prepare()
    threads = torch.get_num_threads()
    for shard in Plan("folder", clips, SHARD_CLIPS):
        ingest_shard((job, shard))
    torch.set_num_threads(threads)
    return out

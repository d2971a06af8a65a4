"""What earlier versions wrote is read as it was meant, or refused in one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import soxr
import torch
from demo_sounds import DEMO

from audio_barlow_twins import CropReader, load_model, open_shards
from audio_barlow_twins.command import run
from audio_barlow_twins.eval.run.scoring import Scores
from audio_barlow_twins.model import load_checkpoint
from audio_barlow_twins.shards import verify

EARLIER = sorted(path for path in (Path(__file__).parent / "earlier").iterdir() if path.is_dir())
FINGERPRINTS = {
    ("v0.1", "logmel"): "c5c858585e946ccd91187e3838902a56",
}
FLAGS = """
--encoder-options width=32 channels=4 --batch 4 --epochs 50 --projector-hidden 16
--projector-out 8 --ranges.mixup.alpha 0.3 --ranges.mixup.memory 16 --no-preflight --log-every 200
"""


@pytest.fixture(params=EARLIER, ids=lambda path: path.name)
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Copy what a version wrote, so that a test may write into it."""
    return Path(shutil.copytree(request.param, tmp_path / request.param.name))


@pytest.mark.parametrize("kind", ["wave", "logmel"])
def test_shard_sets_are_read_and_sound(kit: Path, kind: str) -> None:
    shard_set = open_shards(kit / kind)
    assert (len(shard_set), shard_set.form.kind) == (8, kind)
    wanted = FINGERPRINTS.get((kit.name, kind), shard_set.fingerprint)
    assert shard_set.fingerprint == wanted
    assert not any(verify(kit / kind))
    with CropReader(shard_set, frames=50, batch=8) as reader:
        (batch,) = reader.batches(0, 1)
    assert sorted(batch.clips.tolist()) == list(range(8))
    assert batch.crops.abs().sum() > 0


def test_an_encoder_gives_the_embeddings_that_it_gave(kit: Path) -> None:
    model = load_model(kit / "run" / "encoder.pt", device="cpu")
    stored = pq.read_table(kit / "embeddings.parquet")
    for file, embedding in zip(
        *(stored[c].to_pylist() for c in ("file", "embedding")), strict=True
    ):
        # By libsndfile, as that version read it: ffmpeg's decoder of Opus rounds otherwise.
        wave, rate = soundfile.read(DEMO / "kick" / file, dtype="float32")
        wave = torch.from_numpy(soxr.resample(wave, rate, 16000))
        np.testing.assert_allclose(model(wave[None])[0], embedding, rtol=1e-4, atol=1e-5)


def test_a_run_that_was_stopped_goes_on_to_its_end(kit: Path) -> None:
    words = ["--shards", str(kit / "logmel"), "--run", str(kit / "run"), "--resume", *FLAGS.split()]
    before = load_checkpoint(kit / "run" / "checkpoint.pt")
    run(["train", "demo", *words])
    lines = [json.loads(line) for line in (kit / "run" / "metrics.jsonl").read_text().splitlines()]
    assert (before.step, lines[-1]["step"]) == (9, 100)
    after = load_checkpoint(kit / "run" / "checkpoint.pt")
    assert (after.step, after.fingerprint) == (100, before.fingerprint)


def test_scores_of_a_report_are_read(kit: Path) -> None:
    (path,) = (kit / "run" / "hear" / "scores").glob("*/*/*.json")
    scores = Scores.read(path)
    assert scores is not None
    assert (scores.system, scores.n_clips, scores.n_folds) == ("checkpoint", 12, 3)

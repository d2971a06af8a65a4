"""AudioNTT: published names and order of features, sizes, and inputs it refuses."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from torch import Tensor

from audio_barlow_twins.model.audiontt import AudioNTT

V1: dict[str, Any] = {"blocks": 3, "stack": False}
"""What makes it the AudioNTT2020 of BYOL-A v1."""


def test_parameters_number_what_the_layers_written_out_add_up_to() -> None:
    convolutions = (1 * 9 * 64 + 64) + (64 * 9 * 64 + 64)
    norms = 2 * (64 + 64)
    mlp = (1024 * 2048 + 2048) + (2048 * 2048 + 2048)
    assert sum(p.numel() for p in AudioNTT().parameters()) == convolutions + norms + mlp == 6333376


@pytest.mark.parametrize("width", [512, 1024, 2048])
def test_version_1_has_three_blocks_and_a_square_mlp(width: int) -> None:
    convolutions = (1 * 9 * 64 + 64) + 2 * (64 * 9 * 64 + 64)
    mlp = (512 * width + width) + (width * width + width)
    encoder = AudioNTT(width=width, **V1)
    assert sum(p.numel() for p in encoder.parameters()) == convolutions + 3 * 128 + mlp
    assert encoder.out_features == width


@pytest.mark.parametrize("blocks", [2, 3])
def test_state_dict_has_the_published_names(blocks: int) -> None:
    affine = ("weight", "bias")
    norm = (*affine, "running_mean", "running_var", "num_batches_tracked")
    names = {f"features.{4 * i}.{name}" for i in range(blocks) for name in affine}
    names |= {f"features.{4 * i + 1}.{name}" for i in range(blocks) for name in norm}
    names |= {f"fc.{i}.{name}" for i in (0, 3) for name in affine}
    assert AudioNTT(blocks=blocks).state_dict().keys() == names


@pytest.mark.parametrize(("n_mels", "frames"), [(64, 96), (64, 4), (64, 7), (70, 33), (4, 5)])
def test_embedding_has_the_announced_size(n_mels: int, frames: int) -> None:
    encoder = AudioNTT(n_mels=n_mels, width=32, channels=8)
    assert encoder.out_features == 8 * (n_mels // 4) + 32
    x = torch.zeros(3, frames, n_mels)
    assert encoder(x).shape == (3, encoder.out_features)
    assert encoder.frames(x).shape == (3, frames // 4, encoder.out_features)


def test_default_embedding_has_3072_features() -> None:
    assert AudioNTT().out_features == 3072


@pytest.mark.parametrize(
    "version", [{}, {"hidden": 7}, V1, {"blocks": 3}], ids=["v2", "hidden", "v1", "v1 stacked"]
)
def test_embedding_equals_the_network_written_out_with_loops(version: dict[str, Any]) -> None:
    torch.manual_seed(1)
    encoder = AudioNTT(n_mels=8, width=5, channels=3, **version).double()
    for name, values in encoder.state_dict().items():
        if name.startswith(NORMS) and values.is_floating_point():
            values.uniform_(0.5, 1.5)
    encoder.eval()
    x = torch.randn(2, 19, 8, dtype=torch.float64)
    stack = version.get("stack", True)
    expected = np.stack([slow_embedding(clip.numpy(), encoder.state_dict(), stack) for clip in x])
    np.testing.assert_allclose(encoder(x).detach().numpy(), expected, atol=1e-12)


NORMS = ("features.1.", "features.5.", "features.9.")


def slow_embedding(clip: np.ndarray, state: dict[str, Tensor], stack: bool) -> np.ndarray:
    """Embed one clip [T, F], with the local feature of (mel, channel) at mel * C + channel."""
    weights = {name: value.numpy() for name, value in state.items()}
    maps = [clip.T]
    for conv, norm in ((0, 1), (4, 5), (8, 9)):
        if f"features.{conv}.weight" not in weights:
            break
        kernels, biases = weights[f"features.{conv}.weight"], weights[f"features.{conv}.bias"]
        outputs = []
        for c, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
            pairs = zip(maps, kernel, strict=True)
            y = bias + sum(correlate2d(a, k, mode="same") for a, k in pairs)
            y = (y - weights[f"features.{norm}.running_mean"][c]) / np.sqrt(
                weights[f"features.{norm}.running_var"][c] + 1e-5
            )
            y = y * weights[f"features.{norm}.weight"][c] + weights[f"features.{norm}.bias"][c]
            y = np.maximum(y, 0)[: y.shape[0] // 2 * 2, : y.shape[1] // 2 * 2]
            outputs.append(np.max([y[i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=0))
        maps = outputs
    n_mels, n_frames = maps[0].shape
    rows = []
    for t in range(n_frames):
        local = np.array([maps[c][m, t] for m in range(n_mels) for c in range(len(maps))])
        hidden = np.maximum(weights["fc.0.weight"] @ local + weights["fc.0.bias"], 0)
        hidden = np.maximum(weights["fc.3.weight"] @ hidden + weights["fc.3.bias"], 0)
        rows.append(np.concatenate([local, hidden]) if stack else hidden)
    return np.mean(rows, axis=0) + np.max(rows, axis=0)


def test_embedding_of_a_clip_ignores_its_neighbours_in_evaluation() -> None:
    torch.manual_seed(0)
    encoder = AudioNTT(width=32, channels=8).eval()
    x = torch.randn(5, 20, 64)
    torch.testing.assert_close(encoder(x)[2:3], encoder(x[2:3]), atol=1e-5, rtol=1e-5)


def test_dropout_acts_in_training_only() -> None:
    encoder = AudioNTT(width=64, channels=4)
    x = torch.randn(4, 16, 64)
    assert not torch.equal(encoder(x), encoder(x))
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))


def test_a_clip_shorter_than_its_poolings_need_is_refused() -> None:
    with pytest.raises(ValueError, match="3 frames; pad them to 4"):
        AudioNTT()(torch.zeros(1, 3, 64))
    with pytest.raises(ValueError, match="7 frames; pad them to 8"):
        AudioNTT(**V1)(torch.zeros(1, 7, 64))


@pytest.mark.parametrize("shape", [(2, 64, 96), (96, 64), (1, 1, 64, 96)])
def test_an_input_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[N, T, 64\]"):
        AudioNTT()(torch.zeros(shape))


def test_too_few_mel_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="n_mels=3; 2 poolings by 2 need 4"):
        AudioNTT(n_mels=3)
    with pytest.raises(ValueError, match="n_mels=7; 3 poolings by 2 need 8"):
        AudioNTT(n_mels=7, **V1)

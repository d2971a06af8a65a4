"""ViT_C and ViT: a slow statement in float64, patches, positions, units, names, refusals."""

from math import cos, sin, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import correlate2d
from scipy.special import erf
from torch import Tensor

from audio_barlow_twins.model.vit import Patch, ViT, grid_positions

# (mel, time) strides as the paper gives them.
PAPER_STRIDES: dict[Patch, list[tuple[int, int]]] = {
    "16x16": [(2, 2)] * 4,
    "16x8": [(2, 2)] * 3 + [(2, 1)],
    "8x8": [(2, 2)] * 3 + [(1, 1)],
    "64x2": [(2, 2)] + [(2, 1)] * 5,
}


def small_vit(patch: Patch = "16x8", seed: int = 0, **options) -> ViT:
    """Build a narrow ViT in float64 for 64 mels, with statistics that are not 0 and 1."""
    torch.manual_seed(seed)
    vit = ViT(**{"dim": 16, "heads": 2, "depth": 2, "patch": patch} | options).double().eval()
    for name, values in vit.state_dict().items():
        if values.ndim == 1 and values.is_floating_point():
            values.uniform_(0.5, 1.5) if "running" in name else values.normal_().mul_(0.3)
    return vit


def slow_vit(clip: np.ndarray, vit: ViT, patch: Patch, heads: int = 2) -> np.ndarray:
    """Embed one unit [T, F] by its [CLS], layer by layer in numpy."""
    weights = {name: value.numpy() for name, value in vit.state_dict().items()}
    maps = slow_stem(clip, weights, patch)
    cells = [maps[:, r, c] for r in range(maps.shape[1]) for c in range(maps.shape[2])]
    tokens = np.stack([weights["cls_token"][0, 0], *cells]) + weights["pos_embed"][0]
    for i in range(2):
        block = {k[9:]: v for k, v in weights.items() if k.startswith(f"blocks.{i}.")}
        tokens = tokens + slow_attention(slow_norm(tokens, block, "norm1."), block, heads)
        hidden = slow_norm(tokens, block, "norm2.") @ block["mlp.fc1.weight"].T
        hidden = hidden + block["mlp.fc1.bias"]
        hidden = hidden * (1 + erf(hidden / sqrt(2))) / 2
        tokens = tokens + hidden @ block["mlp.fc2.weight"].T + block["mlp.fc2.bias"]
    return slow_norm(tokens, weights, "norm.")[0]


def slow_stem(clip: np.ndarray, weights: dict[str, np.ndarray], patch: Patch) -> np.ndarray:
    """Compute the patches' features [dim, rows, columns] of a unit [T, F]."""
    maps = clip.T[None]
    for i, (mel, time) in enumerate(PAPER_STRIDES[patch]):
        outputs = [
            sum(correlate2d(a, k, mode="same") for a, k in zip(maps, kernel, strict=True))
            for kernel in weights[f"patch_embed.proj.{3 * i}.weight"]
        ]
        norm = {k: weights[f"patch_embed.proj.{3 * i + 1}.{k}"][:, None, None] for k in NORM}
        maps = (np.stack(outputs) - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-5)
        maps = np.maximum(maps * norm["weight"] + norm["bias"], 0)[:, ::mel, ::time]
    last = f"patch_embed.proj.{3 * len(PAPER_STRIDES[patch])}"
    kernel, bias = weights[f"{last}.weight"][:, :, 0, 0], weights[f"{last}.bias"]
    return np.einsum("dc,crt->drt", kernel, maps) + bias[:, None, None]


NORM = ("running_mean", "running_var", "weight", "bias")


def slow_norm(x: np.ndarray, weights: dict[str, np.ndarray], prefix: str) -> np.ndarray:
    """Normalise each token."""
    centred = x - x.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-6)
    return scaled * weights[prefix + "weight"] + weights[prefix + "bias"]


def slow_attention(x: np.ndarray, block: dict[str, np.ndarray], heads: int) -> np.ndarray:
    """Attend head by head."""
    q, k, v = np.split(x @ block["attn.qkv.weight"].T, 3, axis=1)
    q, v = q + block["attn.q_bias"], v + block["attn.v_bias"]
    outputs = []
    for qh, kh, vh in zip(*(np.split(y, heads, axis=1) for y in (q, k, v)), strict=True):
        scores = np.exp(qh @ kh.T / sqrt(qh.shape[1]))
        outputs.append(scores / scores.sum(axis=1, keepdims=True) @ vh)
    joined = np.concatenate(outputs, axis=1)
    return joined @ block["attn.proj.weight"].T + block["attn.proj.bias"]


@pytest.mark.parametrize("patch", PAPER_STRIDES)
def test_embedding_equals_the_network_written_out(patch: Patch) -> None:
    vit = small_vit(patch, unit_frames=32)
    clips = torch.randn(2, 32, 64, dtype=torch.float64)
    expected = np.stack([slow_vit(clip.numpy(), vit, patch) for clip in clips])
    np.testing.assert_allclose(vit(clips).detach().numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("patch", PAPER_STRIDES)
def test_the_plain_stem_is_a_linear_map_of_each_patch(patch: Patch) -> None:
    vit = small_vit(patch, stem="plain")
    mels, frames = (int(side) for side in patch.split("x"))
    clip = torch.randn(1, 96, 64, dtype=torch.float64)
    maps = vit.patch_embed(clip)[0]
    state = vit.state_dict()
    kernel = state["patch_embed.proj.weight"].reshape(16, -1).numpy()
    for row in range(64 // mels):
        for column in range(96 // frames):
            times, bins = slice(column * frames, None), slice(row * mels, (row + 1) * mels)
            cell = clip[0, times, bins][:frames].numpy().T.reshape(-1)
            expected = kernel @ cell + state["patch_embed.proj.bias"].numpy()
            np.testing.assert_allclose(maps[:, row, column].detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("stem", ["conv", "plain"])
@pytest.mark.parametrize(
    ("patch", "rows", "columns"),
    [("16x8", 4, 12), ("16x16", 4, 6), ("8x8", 8, 12), ("64x2", 1, 48)],
)
def test_a_crop_of_96_frames_is_a_grid_of_patches(
    patch: Patch, rows: int, columns: int, stem: str
) -> None:
    vit = small_vit(patch, stem=stem)
    crop = torch.zeros(1, 96, 64, dtype=torch.float64)
    assert vit.patch_embed(crop).shape == (1, 16, rows, columns)
    assert vit.tokens(crop).shape == (1, 1 + rows * columns, 16)


def test_positions_are_sines_and_cosines_of_column_and_row() -> None:
    encodings = grid_positions(rows=3, columns=5, dim=16)[0]
    assert not encodings[0].any()
    for row in range(3):
        for column in range(5):
            expected = [
                wave(index / 10000 ** (i / 4))
                for index in (column, row)
                for wave in (sin, cos)
                for i in range(4)
            ]
            np.testing.assert_allclose(encodings[1 + row * 5 + column], expected, atol=1e-7)


@given(frames=st.integers(1, 300))
def test_a_clip_is_the_mean_of_its_units_padded_with_zeros(frames: int) -> None:
    clip = torch.randn(2, frames, 64, dtype=torch.float64)
    parts = [clip[:, i : i + 96] for i in range(0, frames, 96)]
    padded = [torch.cat([p, p.new_zeros(2, 96 - p.shape[1], 64)], dim=1) for p in parts]
    expected = torch.stack([VIT(part) for part in padded]).mean(dim=0)
    torch.testing.assert_close(VIT(clip), expected, rtol=0, atol=1e-12)


VIT = small_vit(depth=1)


def test_pooling_by_mean_leaves_the_class_token_out() -> None:
    clip = torch.randn(2, 96, 64, dtype=torch.float64)
    expected = VIT.tokens(clip)[:, 1:].mean(dim=1)
    assert torch.equal(small_vit(depth=1, pool="mean")(clip), expected)


class TestInterpolatedPositions:
    """The whole clip at once, under a grid of positions that is stretched in time."""

    def test_a_clip_of_one_unit_is_embedded_as_ever(self) -> None:
        clip = torch.randn(2, 96, 64, dtype=torch.float64)
        whole = small_vit(depth=1, positions="interpolated")
        torch.testing.assert_close(whole(clip), VIT(clip), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("frames", [8, 50, 96, 500])
    def test_positions_follow_the_cubic_kernel(self, frames: int) -> None:
        vit = small_vit(depth=0, positions="interpolated")
        last = vit.patch_embed.proj[-1]  # type: ignore[index]
        for values in last.parameters():  # patches without content show their positions
            values.data.zero_()
        tokens = vit.tokens(torch.zeros(1, -(-frames // 8) * 8, 64, dtype=torch.float64))[0, 1:]
        grid = grid_positions(4, 12, 16)[0, 1:].double().view(4, 12, 16)
        stretched = torch.einsum("ck,rkd->rcd", cubic_weights(12, -(-frames // 8)), grid)
        torch.testing.assert_close(tokens, vit.norm(stretched.flatten(0, 1)))

    def test_a_clip_is_padded_to_whole_patches_only(self) -> None:
        vit = small_vit(depth=1, positions="interpolated")
        clip = torch.randn(2, 101, 64, dtype=torch.float64)
        padded = torch.cat([clip, clip.new_zeros(2, 3, 64)], dim=1)
        assert torch.equal(vit(clip), vit(padded))


def cubic_weights(length: int, new_length: int) -> Tensor:
    """Weights [new_length, length] of Keys' kernel (a = -0.75) between cell centres, clamped."""
    weights = torch.zeros(new_length, length, dtype=torch.float64)
    for i in range(new_length):
        x = (i + 0.5) * length / new_length - 0.5
        for tap in range(int(np.floor(x)) - 1, int(np.floor(x)) + 3):
            d, a = abs(x - tap), -0.75
            near = (a + 2) * d**3 - (a + 3) * d**2 + 1
            far = a * (d**3 - 5 * d**2 + 8 * d - 4)
            weights[i, min(max(tap, 0), length - 1)] += near if d <= 1 else far if d < 2 else 0
    return weights


@pytest.mark.parametrize(("patch", "convolutions"), [("16x8", 4), ("64x2", 6)])
def test_state_dict_has_the_authors_names(patch: Patch, convolutions: int) -> None:
    names = {"cls_token", "pos_embed", "norm.weight", "norm.bias"}
    for i in range(convolutions):
        norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        names |= {f"patch_embed.proj.{3 * i}.weight"}
        names |= {f"patch_embed.proj.{3 * i + 1}.{name}" for name in norm}
    names |= {f"patch_embed.proj.{3 * convolutions}.{name}" for name in ("weight", "bias")}
    for block in ("blocks.0", "blocks.1"):
        layers = ("norm1", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
        names |= {f"{block}.{layer}.{name}" for layer in layers for name in ("weight", "bias")}
        names |= {f"{block}.attn.{name}" for name in ("qkv.weight", "q_bias", "v_bias")}
    assert small_vit(patch).state_dict().keys() == names


@pytest.mark.parametrize(
    ("dim", "heads", "total"), [(768, 12, 82_038_432), (384, 6, 20_536_656), (192, 3, 5_147_688)]
)
def test_parameters_number_what_the_layers_written_out_add_up_to(
    dim: int, heads: int, total: int
) -> None:
    attention = 3 * dim * dim + 2 * dim + dim * dim + dim
    mlp = (dim * 4 * dim + 4 * dim) + (4 * dim * dim + dim)
    block = attention + mlp + 2 * 2 * dim
    d = dim // 8
    convolutions = 9 * (1 * d + d * 2 * d + 2 * d * 4 * d + 4 * d * 8 * d) + 2 * (1 + 2 + 4 + 8) * d
    stems = {"conv": convolutions + dim * dim + dim, "plain": 16 * 8 * dim + dim}
    for stem, parameters in stems.items():
        depth = 11 if stem == "conv" else 12
        with torch.device("meta"):
            vit = ViT(dim=dim, heads=heads, depth=depth, stem=stem)  # type: ignore[arg-type]
        assert sum(p.numel() for p in vit.parameters()) == 3 * dim + depth * block + parameters
    assert 3 * dim + 11 * block + stems["conv"] == total


def test_every_parameter_learns_under_autocast() -> None:
    torch.manual_seed(0)
    vit = ViT(dim=64, heads=2, depth=2)
    with torch.autocast("cpu", torch.bfloat16):
        vit(torch.randn(4, 96, 64))[:, 0].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in vit.parameters())


def test_bfloat16_autocast_stays_close_to_float32() -> None:
    torch.manual_seed(0)
    vit, x = ViT(dim=64, heads=2, depth=4).eval(), torch.randn(4, 200, 64)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = vit(x)
    exact = vit(x)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("shape", [(2, 64, 96), (96, 64), (1, 1, 96, 64), (1, 0, 64)])
def test_an_input_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[N, T, 64\]"):
        VIT(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize(
    "sizes",
    [{"n_mels": 80, "patch": "64x2"}, {"unit_frames": 100}, {"n_mels": 0}, {"unit_frames": -96}],
)
def test_sizes_that_patches_do_not_divide_are_refused(sizes: dict) -> None:
    with pytest.raises(ValueError, match="multiples of"):
        ViT(**sizes)

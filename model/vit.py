"""Vision Transformers for log-mel: ViT_C with a convolutional stem (Xiao et al., 2021), and ViT.

State-dict names and the order of tokens (mel-major) and position features (time, then mel) are
those of the paper's authors, so their weights load by name.
"""

from collections import OrderedDict
from collections.abc import Iterable
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Patch = Literal["16x8", "16x16", "8x8", "64x2"]
STRIDES: dict[Patch, tuple[tuple[int, int], ...]] = {
    "16x8": ((2, 2), (2, 2), (2, 2), (2, 1)),
    "16x16": ((2, 2), (2, 2), (2, 2), (2, 2)),
    "8x8": ((2, 2), (2, 2), (2, 2), (1, 1)),
    "64x2": ((2, 2), (2, 1), (2, 1), (2, 1), (2, 1), (2, 1)),
}
"""Strides (mel, time) of the stem's 3x3 convolutions by patch (mel bins x frames)."""
DEPTHS = {"conv": 11, "plain": 12}
"""Transformer blocks by stem: a convolutional one takes the place of a block (Xiao et al.)."""


def patch_shape(patch: Patch) -> tuple[int, int]:
    """Return mel bins and frames of a patch: the products of its stem's strides."""
    mel, time = zip(*STRIDES[patch], strict=True)
    return prod(mel), prod(time)


class ViT(nn.Module):
    """Embed normalised log-mel as one vector per clip with a Transformer over patches.

    A clip is cut into units of the length that the network was trained on, padded with zeros at
    the end, and its embedding is the mean of theirs (as the paper does for HEAR). With
    `positions="interpolated"` the clip is embedded as a whole, and the grid of position encodings
    is stretched in time.

    Args:
        n_mels: mel bins of the input.
        dim: width of the tokens.
        heads: attention heads.
        depth: Transformer blocks; see DEPTHS.
        patch: mel bins x frames of a patch.
        stem: 3x3 convolutions, or one convolution as large as a patch (plain ViT).
        projection: whether the plain ViT trains that one convolution or keeps it as it was drawn,
            as the authors do after MoCo v3 (Chen et al., 2021). 3x3 convolutions are trained.
        unit_frames: length of a unit, frames.
        pool: return the [CLS] token, or the mean of the other tokens.
        positions: "units", or "interpolated" for whole clips.
    """

    def __init__(
        self,
        n_mels: int = 64,
        dim: int = 768,
        heads: int = 12,
        depth: int = DEPTHS["conv"],
        patch: Patch = "16x8",
        stem: Literal["conv", "plain"] = "conv",
        projection: Literal["frozen", "trained"] = "frozen",
        unit_frames: int = 96,
        pool: Literal["cls", "mean"] = "cls",
        positions: Literal["units", "interpolated"] = "units",
    ) -> None:
        super().__init__()
        patch_mels, patch_frames = patch_shape(patch)
        if n_mels % patch_mels or unit_frames % patch_frames or min(n_mels, unit_frames) < 1:
            raise ValueError(
                f"a ViT of patch {patch} got n_mels={n_mels} and unit_frames={unit_frames}; "
                f"give it multiples of {patch_mels} and {patch_frames}"
            )
        self.n_mels, self.pool, self.positions = n_mels, pool, positions
        self.step = unit_frames if positions == "units" else patch_frames
        self.rows, columns = n_mels // patch_mels, unit_frames // patch_frames
        self.out_features = dim
        self.patch_embed = PatchEmbed(dim, patch, stem)
        self.patch_embed.requires_grad_(stem == "conv" or projection == "trained")
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed: Tensor
        self.register_buffer("pos_embed", grid_positions(self.rows, columns, dim))
        self.blocks = nn.Sequential(*(Block(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        """Embed a batch of clips: normalised log-mel, float [N, T, F], to [N, out_features]."""
        if x.ndim != 3 or x.shape[2] != self.n_mels or not x.shape[1]:
            raise ValueError(
                f"ViT got an input of shape {list(x.shape)}; give it [N, T, {self.n_mels}]"
            )
        n, t, _ = x.shape
        units = (t + self.step - 1) // self.step
        x = F.pad(x, (0, 0, 0, units * self.step - t))
        if self.positions == "interpolated":
            return self._pooled(x)
        return self._pooled(x.reshape(-1, self.step, self.n_mels)).unflatten(0, (n, units)).mean(1)

    def tokens(self, x: Tensor) -> Tensor:
        """Return the tokens of whole patches: [N, T, F] to [N, 1 + patches, dim], [CLS] first."""
        maps = self.patch_embed(x)
        patches = maps.flatten(2).transpose(1, 2) + self._patch_positions(maps.shape[3])
        first = (self.cls_token + self.pos_embed[:, :1]).expand(x.shape[0], -1, -1)
        return self.norm(self.blocks(torch.cat([first, patches], dim=1)))

    def _pooled(self, x: Tensor) -> Tensor:
        tokens = self.tokens(x)
        return tokens[:, 0] if self.pool == "cls" else tokens[:, 1:].mean(dim=1)

    def _patch_positions(self, columns: int) -> Tensor:
        """Return the encodings of all patches in `columns` columns of time, [1, patches, dim]."""
        encodings = self.pos_embed[:, 1:]
        if self.positions == "units":
            return encodings
        grid = encodings.unflatten(1, (self.rows, -1)).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, size=(self.rows, columns), mode="bicubic")
        return grid.permute(0, 2, 3, 1).flatten(1, 2)

    def _initialise(self) -> None:
        """Draw the weights as the authors do; a convolutional stem keeps torch's defaults."""
        nn.init.normal_(self.cls_token, std=0.02)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if isinstance(self.patch_embed.proj, nn.Conv2d):
            nn.init.xavier_uniform_(self.patch_embed.proj.weight.flatten(1))


class PatchEmbed(nn.Module):
    """Turn log-mel [N, T, F] into a grid of patches [N, dim, rows of mel, columns of time]."""

    def __init__(self, dim: int, patch: Patch, stem: Literal["conv", "plain"]) -> None:
        super().__init__()
        size = patch_shape(patch)
        self.proj = _conv_stem(dim, patch) if stem == "conv" else nn.Conv2d(1, dim, size, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x.transpose(1, 2).unsqueeze(1))


class Attention(nn.Module):
    """Self-attention over tokens [N, L, dim]; queries and values have a bias, keys have none."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias).unflatten(2, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A pre-norm Transformer block for tokens [N, L, dim], with an MLP of four times the width."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        layers = {"fc1": nn.Linear(dim, 4 * dim), "act": nn.GELU(), "fc2": nn.Linear(4 * dim, dim)}
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def depth_of(keys: Iterable[str]) -> int:
    """Return how many Transformer blocks the keys of a state dict name."""
    return len({key.split(".")[1] for key in keys if key.startswith("blocks.")})


def grid_positions(rows: int, columns: int, dim: int) -> Tensor:
    """Return sine and cosine encodings of a grid of patches, float32 [1, 1 + rows * columns, dim].

    The first half of the features encodes the column (time), the second the row (mel); each half
    is sines, then cosines, of the index times 10000^(-i / (dim / 4)). [CLS] comes first, as zeros.
    """
    rates = 10000 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [index.reshape(-1, 1) * rates for index in (column, row)]
    features = torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
    return F.pad(features, (0, 0, 1, 0))[None].float()


def _conv_stem(dim: int, patch: Patch) -> nn.Sequential:
    """Return the stem: 3x3 convolutions that double their channels up to `dim`, then a 1x1 one."""
    layers: list[nn.Module] = []
    channels = 1
    for i, stride in enumerate(STRIDES[patch]):
        inputs, channels = channels, dim // 8 * 2 ** min(i, 3)
        layers += [
            nn.Conv2d(inputs, channels, kernel_size=3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.Conv2d(channels, dim, kernel_size=1))

"""AudioNTT, the small convolutional encoders of BYOL-A (Niizumi et al., 2021 and 2022).

Version 2, which the paper uses, has two convolutional blocks and returns local and global
features; version 1 (AudioNTT2020) has three and returns global features only. Parameter names and
the order of the flattened features are those of the published state dicts, so their weights load
once the prefix is removed.
"""

import torch
from torch import Tensor, nn


class AudioNTT(nn.Module):
    """Embed normalised log-mel as one vector per clip: features of frames, pooled over time.

    Args:
        n_mels: mel bins of the input; the topmost are dropped if 2^blocks does not divide it.
        width: units of the last layer of the per-frame MLP (the global features).
        channels: channels of the convolutions (the local features, by mel).
        dropout: probability of dropping a hidden unit of the MLP in training.
        blocks: convolutional blocks; each halves mel and time.
        stack: return the local features as well as the global ones.
        hidden: units of the first layer of the MLP; default: `width`.
    """

    def __init__(
        self,
        n_mels: int = 64,
        width: int = 2048,
        channels: int = 64,
        dropout: float = 0.3,
        blocks: int = 2,
        stack: bool = True,
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        self.stride = 2**blocks
        if n_mels < self.stride:
            raise ValueError(
                f"AudioNTT got n_mels={n_mels}; {blocks} poolings by 2 need {self.stride} or more"
            )
        self.n_mels, self.stack = n_mels, stack
        inputs = [1, *[channels] * (blocks - 1)]
        self.features = nn.Sequential(*(layer for n in inputs for layer in _block(n, channels)))
        local = channels * (n_mels // self.stride)
        hidden = hidden or width
        self.fc = nn.Sequential(
            nn.Linear(local, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
            nn.ReLU(),
        )
        self.out_features = local * stack + width

    def forward(self, x: Tensor) -> Tensor:
        """Embed normalised log-mel, float [N, T, F], T at least 2^blocks, as [N, out_features].

        An embedding is the mean over time of the frame features plus their maximum.
        """
        frames = self.frames(x)
        return frames.mean(dim=1) + frames.amax(dim=1)

    def frames(self, x: Tensor) -> Tensor:
        """Embed each run of `stride` frames: [N, T, F] to [N, T // stride, out_features]."""
        if x.ndim != 3 or x.shape[2] != self.n_mels:
            raise ValueError(
                f"AudioNTT got an input of shape {list(x.shape)}; give it [N, T, {self.n_mels}]"
            )
        if x.shape[1] < self.stride:
            raise ValueError(
                f"AudioNTT got clips of {x.shape[1]} frames; pad them to {self.stride} or more"
            )
        image = x.transpose(1, 2).unsqueeze(1)
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            # oneDNN convolves and pools 1.7 times as fast so; an exporter would fix the batch size.
            image = image.contiguous(memory_format=torch.channels_last)
        maps = self.features(image)
        # [N, C, F', T'] -> [N, T', F' * C]: mel-major, channel-minor, as the weights expect.
        local = maps.permute(0, 3, 2, 1).flatten(2)
        features = self.fc(local)
        return torch.cat([local, features], dim=-1) if self.stack else features


def _block(channels_in: int, channels_out: int) -> list[nn.Module]:
    # Pooling before the ReLU gives the same result, and the ReLU then has a quarter of the work.
    return [
        nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=1, padding=1),
        nn.BatchNorm2d(channels_out),
        nn.MaxPool2d(2, stride=2),
        nn.ReLU(),
    ]

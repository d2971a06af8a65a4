"""AudioNTT, the small convolutional encoder of BYOL-A v2 (Niizumi et al., 2022).

Parameter names and the order of the flattened features are those of the published state dicts,
so that their weights load with `load_state_dict` once the prefix is cut off.
"""

import torch
from torch import Tensor, nn

TIME_STRIDE = 4


class AudioNTT(nn.Module):
    """Turn normalised log-mel into one vector per clip: local and global features, pooled.

    Args:
        n_mels: mel bins of the input; a number that 4 does not divide loses the topmost bins.
        width: units of both layers of the per-frame MLP (the global features).
        channels: channels of both convolutions.
        dropout: probability of dropping a hidden unit of the MLP in training.
    """

    def __init__(
        self, n_mels: int = 64, width: int = 2048, channels: int = 64, dropout: float = 0.3
    ) -> None:
        super().__init__()
        if n_mels < TIME_STRIDE:
            raise ValueError(f"AudioNTT got n_mels={n_mels}; two poolings by 2 need 4 or more")
        self.n_mels = n_mels
        self.features = nn.Sequential(*_block(1, channels), *_block(channels, channels))
        local = channels * (n_mels // TIME_STRIDE)
        self.fc = nn.Sequential(
            nn.Linear(local, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.ReLU(),
        )
        self.out_features = local + width

    def forward(self, x: Tensor) -> Tensor:
        """Embed a batch of clips.

        Args:
            x: normalised log-mel, float [N, T, F], T at least 4 frames.

        Returns:
            Mean plus maximum over time of the frame features, float [N, out_features].
        """
        frames = self.frames(x)
        return frames.mean(dim=1) + frames.amax(dim=1)

    def frames(self, x: Tensor) -> Tensor:
        """Embed every fourth frame of a batch of clips: [N, T, F] to [N, T // 4, out_features]."""
        if x.ndim != 3 or x.shape[2] != self.n_mels:
            raise ValueError(
                f"AudioNTT got an input of shape {list(x.shape)}; give it [N, T, {self.n_mels}]"
            )
        if x.shape[1] < TIME_STRIDE:
            raise ValueError(
                f"AudioNTT got clips of {x.shape[1]} frames; pad them to {TIME_STRIDE} or more"
            )
        maps = self.features(x.transpose(1, 2).unsqueeze(1))
        # [N, C, F/4, T/4] -> [N, T/4, F/4 * C]: mel-major, channel-minor, as the weights were made.
        local = maps.permute(0, 3, 2, 1).flatten(2)
        return torch.cat([local, self.fc(local)], dim=-1)


def _block(channels_in: int, channels_out: int) -> list[nn.Module]:
    """List the layers of one block: it halves both axes.

    The maximum is taken before the ReLU, which gives the same and costs a quarter of the ReLU.
    """
    return [
        nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=1, padding=1),
        nn.BatchNorm2d(channels_out),
        nn.MaxPool2d(2, stride=2),
        nn.ReLU(),
    ]

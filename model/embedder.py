"""The frozen encoder that users want: waveforms in, one vector per clip out.

    model = load_model("runs/first/encoder.pt")
    embeddings = model(audio)  # audio: float [N, samples] at 16 kHz

Clips are normalised with the statistics of the checkpoint, and the encoder always runs in
evaluation mode, so an embedding depends only on its own clip.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audio_barlow_twins.shards.base.device import exactly, on_device
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.logmel import LogMel

from .checkpoint import Checkpoint, CheckpointError, restore_encoder
from .foreign import load_any_checkpoint
from .pretrained import WEIGHTS, read_folder, read_pretrained, save_pretrained, sha256_of

FRAMES_PER_PASS = 128 * 96
"""Bound on the frames of one forward pass, and so on its memory."""


class Embedder(nn.Module):
    """A frozen encoder with its own front-end and statistics: waveforms in, embeddings out.

    Attributes:
        sample_rate: of the audio it takes, in Hz.
        scene_embedding_size, timestamp_embedding_size: features of an embedding.
        source: its checkpoint, without the weights; None if it was not loaded from one.
    """

    def __init__(
        self, encoder: nn.Module, out_features: int, front_end: FrontEnd, mean: float, std: float
    ) -> None:
        """Freeze `encoder`, which maps normalised log-mel [N, T, F] to [N, out_features]."""
        super().__init__()
        self.front_end = front_end
        self.mean = mean
        self.std = std
        self.sample_rate = front_end.sample_rate
        self.scene_embedding_size = out_features
        self.timestamp_embedding_size = out_features
        self.log_mel = LogMel(front_end=front_end)
        self.encoder = encoder
        self.source: Checkpoint | None = None
        self.requires_grad_(False).eval()

    @property
    def device(self) -> torch.device:
        """The device on which the encoder runs."""
        return next(self.log_mel.buffers()).device

    def train(self, mode: bool = True) -> "Embedder":
        """Stay in evaluation mode: batch statistics would make clips depend on each other."""
        super().train(False)
        return self

    @property
    def least_samples(self) -> int:
        """Shortest clip that front-end and encoder take, samples.

        Of the encoders only AudioNTT needs several frames: those that its poolings reduce to one.
        """
        least_frames = int(getattr(self.encoder, "stride", 1))
        return max(self.front_end.least_samples, (least_frames - 1) * self.front_end.hop)

    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        """Embed whole clips in one pass.

        Args:
            audio: float [N, samples] in [-1, 1]; padded with zeros to `least_samples`.

        Returns:
            float32 [N, D] on the encoder's device.
        """
        audio = audio.to(self.device)
        if (lacking := self.least_samples - audio.shape[1]) > 0:
            audio = F.pad(audio, (0, lacking))
        return self.encode(self.log_mel(audio))

    def encode(self, log_mel: Tensor) -> Tensor:
        """Normalise and embed log-mel [N, T, F]; returns float32 [N, D] on the encoder's device."""
        return exactly(self.encoder, (log_mel - self.mean) / self.std).float()

    def clips_per_pass(self, n_samples: int) -> int:
        """Return how many clips of a length fit into one forward pass, at least one."""
        return max(1, FRAMES_PER_PASS // (n_samples // self.front_end.hop + 1))

    def save_pretrained(self, folder: str | Path, half: bool = False) -> None:
        """Write model.safetensors (float16 if `half`), config.json and a README.md."""
        if self.source is None:
            raise CheckpointError(f"{folder}: not written: this encoder is not from a checkpoint")
        save_pretrained(replace(self.source, state=self.encoder.state_dict()), Path(folder), half)

    @classmethod
    def from_pretrained(cls, name: str | Path, device: str | None = None) -> "Embedder":
        """Load a folder that `save_pretrained` wrote, or one on the hub ("owner/name")."""
        return frozen(read_pretrained(name), device)


def load_model(model_file_path: str | Path = "", device: str | None = None) -> Embedder:
    """Load a checkpoint as a frozen model.

    Args:
        model_file_path: a checkpoint written by `abt train`, a folder written by
            `save_pretrained`, or a checkpoint of BYOL-A or of the paper's authors.
        device: such as "cpu" or "cuda:1"; default: a GPU if there is one.

    Raises:
        CheckpointError: there is no such file, or it cannot be used.
        UserError: there is no such device.
    """
    if not str(model_file_path):
        raise CheckpointError("no checkpoint was named; give the path of one that `train` wrote")
    return frozen(read_checkpoint(Path(model_file_path)), device)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, or a folder that `save_pretrained` wrote."""
    return read_folder(path) if path.is_dir() else load_any_checkpoint(path)


def checkpoint_facts(path: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what identifies a checkpoint, as plain values for reports and file headers."""
    return {
        "checkpoint": path.name,
        "checkpoint_sha256": sha256_of(path / WEIGHTS if path.is_dir() else path),
        "encoder": checkpoint.encoder,
        "step": checkpoint.step,
        "shards_fingerprint": checkpoint.fingerprint,
        "mean": checkpoint.mean,
        "std": checkpoint.std,
        "front_end": checkpoint.front_end,
        "log_mel": checkpoint.log_mel,
    }


def frozen(checkpoint: Checkpoint, device: str | None = None) -> Embedder:
    """Return the frozen model of a checkpoint."""
    model = wrap_encoder(restore_encoder(checkpoint), checkpoint, device)
    model.source = replace(checkpoint, state={}, training=None)
    return model


def wrap_encoder(encoder: nn.Module, checkpoint: Checkpoint, device: str | None = None) -> Embedder:
    """Freeze any encoder behind the front-end and the statistics of a checkpoint.

    Args:
        encoder: maps normalised log-mel [N, T, F] to [N, out_features].
        checkpoint: its weights are not used.
        device: default: a GPU if there is one.
    """
    front_end = FrontEnd.from_parameters(checkpoint.front_end)
    width = encoder.out_features
    if not isinstance(width, int):
        raise TypeError(f"out_features of {type(encoder).__name__} is {width!r}, not an int")
    model = Embedder(encoder, width, front_end, checkpoint.mean, checkpoint.std)
    return on_device(model, device)

"""The HEAR 2021 API: audio in, embeddings of a frozen encoder out.

    from .hear import get_scene_embeddings, load_model

    model = load_model("runs/first/encoder.pt")
    embeddings = get_scene_embeddings(audio, model)  # audio: float [N, samples] at 16 kHz

Every clip is normalised with the statistics stored in the checkpoint, and the encoder always runs
in evaluation mode, so an embedding depends on its own clip alone.
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audio_barlow_twins.model.checkpoint import Checkpoint, CheckpointError, restore_encoder
from audio_barlow_twins.model.foreign import load_any_checkpoint
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.logmel import LogMel

from .systems.folder import WEIGHTS, read_folder

# Bound on the frames of one forward pass; 128 windows of 950 ms, about 200 MB per feature map.
FRAMES_PER_PASS = 128 * 96

Model = TypeVar("Model", bound=nn.Module)


class ModelError(UserError):
    """An encoder cannot be loaded, or was given something that is not audio."""


class HearModel(nn.Module):
    """A frozen encoder with its own front-end and statistics: waveform in, one vector per clip out.

    Attributes:
        sample_rate: of the audio it takes, in Hz.
        scene_embedding_size: width of a scene embedding.
        timestamp_embedding_size: width of a timestamp embedding.
        source: the checkpoint that it was made of, without its weights; None if there is none.
    """

    def __init__(
        self, encoder: nn.Module, out_features: int, front_end: FrontEnd, mean: float, std: float
    ) -> None:
        """Freeze `encoder`, which takes normalised log-mel [N, T, F], returns [N, out_features]."""
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
        """Where the encoder runs."""
        return next(self.log_mel.buffers()).device

    def train(self, mode: bool = True) -> "HearModel":
        """Stay in evaluation mode: with batch statistics, clips would depend on each other."""
        super().train(False)
        return self

    @property
    def least_samples(self) -> int:
        """How long a clip must be for front-end and encoder, in samples.

        Of the encoders only AudioNTT needs several frames: what its poolings make one of.
        """
        least_frames = int(getattr(self.encoder, "stride", 1))
        return max(self.front_end.least_samples, (least_frames - 1) * self.front_end.hop)

    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        """Embed clips, each as a whole, in one pass.

        Args:
            audio: float [N, samples] in [-1, 1]. A clip of less than `least_samples` is padded
                with zeros at its end.

        Returns:
            float32 [N, D] on the encoder's device.
        """
        audio = audio.to(self.device)
        if (lacking := self.least_samples - audio.shape[1]) > 0:
            audio = F.pad(audio, (0, lacking))
        return self.encode(self.log_mel(audio))

    def encode(self, log_mel: Tensor) -> Tensor:
        """Normalise and embed log-mel [N, T, F]; returns float32 [N, D] on the encoder's device."""
        return self.encoder((log_mel - self.mean) / self.std).float()

    def clips_per_pass(self, n_samples: int) -> int:
        """Tell how many clips of a length go into one forward pass; at least one."""
        return max(1, FRAMES_PER_PASS // (n_samples // self.front_end.hop + 1))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model.safetensors, config.json and a README.md; see `eval.systems.pretrained`."""
        from .systems.pretrained import save_pretrained  # which imports this module

        if self.source is None:
            raise ModelError(f"{folder}: not written: the model has no encoder of a checkpoint")
        save_pretrained(replace(self.source, state=self.encoder.state_dict()), folder)

    @classmethod
    def from_pretrained(cls, name: str | Path, device: str | None = None) -> "HearModel":
        """Load what `save_pretrained` wrote, here or on the hub; see `eval.systems.pretrained`."""
        from .systems.pretrained import from_pretrained

        return from_pretrained(name, device)


def load_model(model_file_path: str | Path = "", device: str | None = None) -> HearModel:
    """Load a checkpoint as a frozen HEAR model.

    Args:
        model_file_path: a checkpoint written by `abt train`, a folder written by
            `save_pretrained`, or a checkpoint of BYOL-A or of the paper's authors.
        device: where to run, such as "cpu" or "cuda:1"; by default a GPU if there is one.

    Raises:
        ModelError: there is no such file, or it cannot be used.
    """
    if not str(model_file_path):
        raise ModelError("no checkpoint was named; pass the path of one that `train` wrote")
    return frozen_model(read_checkpoint(Path(model_file_path)), device)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, or a folder that `save_pretrained` wrote; one line when that fails."""
    if path.is_dir():
        return read_folder(path)
    try:
        return load_any_checkpoint(path)
    except CheckpointError as error:
        raise ModelError(str(error)) from error


def checkpoint_facts(path: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Collect what identifies a checkpoint, as plain values for reports and file headers."""
    with (path / WEIGHTS if path.is_dir() else path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "checkpoint": path.name,
        "checkpoint_sha256": digest,
        "encoder": checkpoint.encoder,
        "step": checkpoint.step,
        "shards_fingerprint": checkpoint.fingerprint,
        "mean": checkpoint.mean,
        "std": checkpoint.std,
        "front_end": checkpoint.front_end,
    }


def frozen_model(checkpoint: Checkpoint, device: str | None = None) -> HearModel:
    """Build the HEAR model of a checkpoint that has been read."""
    try:
        encoder = restore_encoder(checkpoint)
    except ValueError as error:
        raise ModelError(str(error)) from error
    model = wrap_encoder(encoder, checkpoint, device)
    model.source = replace(checkpoint, state={}, training=None)
    return model


def wrap_encoder(
    encoder: nn.Module, checkpoint: Checkpoint, device: str | None = None
) -> HearModel:
    """Give any encoder the front-end and the statistics of a checkpoint.

    Args:
        encoder: takes normalised log-mel [N, T, F]; its `out_features` is the width D it returns.
        checkpoint: where front-end and statistics come from; its weights are not used.
        device: where to run; by default a GPU if there is one.
    """
    front_end = FrontEnd.from_parameters(checkpoint.front_end)
    width = encoder.out_features
    if not isinstance(width, int):
        raise TypeError(f"out_features of {type(encoder).__name__} is {width!r}, not an int")
    model = HearModel(encoder, width, front_end, checkpoint.mean, checkpoint.std)
    return on_device(model, device)


def on_device(model: Model, device: str | None) -> Model:
    """Move a model to a named device, or to a GPU if there is one."""
    try:
        return model.to(device_name(device))
    except (RuntimeError, AssertionError) as error:  # what torch raises depends on its build
        reason = str(error).splitlines()[0]
        raise ModelError(f"device {device!r} cannot be used: {reason}") from error


def device_name(device: str | None) -> str:
    """Name the device that was asked for, or else a GPU if there is one."""
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


@torch.no_grad()
def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """Embed each clip as a whole.

    Args:
        audio: float [N, samples] in [-1, 1] at `model.sample_rate`; any number of samples.
        model: from `load_model`.

    Returns:
        float32 [N, model.scene_embedding_size], on the model's device.
    """
    check_audio(audio)
    passes = audio.split(model.clips_per_pass(audio.shape[1]))
    return torch.cat([model(clips) for clips in passes])


@torch.no_grad()
def get_timestamp_embeddings(
    audio: Tensor, model: HearModel, hop_ms: float = 50.0, window_ms: float = 950.0
) -> tuple[Tensor, Tensor]:
    """Embed a window centred on every timestamp.

    Half a window of zeros goes before and after each clip, and timestamps run from 0 to the
    clip's duration inclusive. Windows are embedded a bounded number at a time.

    Args:
        audio: float [N, samples] in [-1, 1] at `model.sample_rate`.
        model: from `load_model`.
        hop_ms: from one timestamp to the next.
        window_ms: length of the window.

    Returns:
        Embeddings float32 [N, T, model.timestamp_embedding_size] and timestamps in milliseconds
        float32 [N, T], both on the model's device.
    """
    check_audio(audio)
    if hop_ms <= 0 or window_ms <= 0:
        raise ModelError(f"hop_ms is {hop_ms} and window_ms {window_ms}; both must be above 0")
    samples_per_ms = model.sample_rate / 1000
    window = round(window_ms * samples_per_ms)
    count = int(audio.shape[1] / (hop_ms * samples_per_ms) + 1e-9) + 1
    timestamps_ms = torch.arange(count, dtype=torch.float64) * hop_ms
    starts = (timestamps_ms * samples_per_ms).round().long()
    padded = F.pad(audio, (window // 2, window - window // 2))
    rows = torch.arange(len(audio)).repeat_interleave(count)
    embeddings = embed_windows(model, padded, rows, starts.repeat(len(audio)), window)
    return (
        embeddings.view(len(audio), count, -1),
        timestamps_ms.float().to(embeddings.device).expand(len(audio), -1),
    )


def embed_windows(
    model: HearModel, audio: Tensor, rows: Tensor, starts: Tensor, window: int
) -> Tensor:
    """Embed `audio[rows[i], starts[i] : starts[i] + window]` for each i, float32 [i, D]."""
    offsets = torch.arange(window)
    size = model.clips_per_pass(window)
    embeddings = [
        model(
            audio[some_rows[:, None].to(audio.device), (some[:, None] + offsets).to(audio.device)]
        )
        for some_rows, some in zip(rows.split(size), starts.split(size), strict=True)
    ]
    return torch.cat(embeddings)


def check_audio(audio: Tensor) -> None:
    """Refuse what is not a batch of float waveforms."""
    if audio.ndim != 2 or not audio.is_floating_point() or not len(audio):
        shape = "x".join(map(str, audio.shape))
        raise ModelError(f"audio is {audio.dtype} of shape {shape}; wanted float [clips, samples]")

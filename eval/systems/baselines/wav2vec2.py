"""wav2vec 2.0 (Baevski et al. 2020) from a local Hugging Face folder, through `transformers`.

As in HEAR 2021's baseline (hearbaseline's `wav2vec2` module, on SpeechBrain's HuggingFaceWav2Vec2,
with facebook/wav2vec2-large-100k-voxpopuli), embeddings are the last hidden state, normalised over
all its values; timestamps are the centres of its frames, and a clip's embedding is their mean.
Unlike the baseline, which normalises input and output over a whole batch, this normalises each
clip by itself; the two agree on a batch of one clip.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audio_barlow_twins.shards.base.device import on_device
from audio_barlow_twins.shards.base.errors import UserError

from ...hear import check_audio

SAMPLE_RATE = 16000
INPUT_EPS = 1e-7
"""Added to a clip's variance, as in transformers' Wav2Vec2FeatureExtractor."""


class Wav2Vec2(nn.Module):
    """A frozen Wav2Vec2Model: waveform in, a vector every 20 ms out.

    Attributes:
        receptive_field: samples in a frame, 400.
        stride: samples from one frame to the next, 320.
    """

    sample_rate = SAMPLE_RATE

    def __init__(self, network: nn.Module, normalise: bool) -> None:
        """Freeze a network; `normalise` if it was trained on clips of deviation 1."""
        super().__init__()
        self.network, self.normalise = network, normalise
        config: Any = network.config
        self.scene_embedding_size = self.timestamp_embedding_size = int(config.hidden_size)
        self.receptive_field, self.stride = 1, 1
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            self.receptive_field += (kernel - 1) * self.stride
            self.stride *= stride
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Wav2Vec2":
        """Stay in evaluation mode: training drops layers and masks frames."""
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        """Embed clips.

        Args:
            audio: float [N, samples] in [-1, 1]. A clip shorter than a frame is padded with zeros.

        Returns:
            float32 [N, T, D] on the model's device, of mean 0 and deviation 1 over each clip.
        """
        audio = audio.to(next(self.parameters()).device)
        if self.normalise:
            audio = F.layer_norm(audio, audio.shape[1:], eps=INPUT_EPS)
        if (lacking := self.receptive_field - audio.shape[1]) > 0:
            audio = F.pad(audio, (0, lacking))
        hidden = self.network(audio).last_hidden_state
        return F.layer_norm(hidden, hidden.shape[1:])


def load_model(model_file_path: str | Path = "", device: str | None = None) -> Wav2Vec2:
    """Load wav2vec 2.0 as a frozen HEAR model.

    Args:
        model_file_path: folder with config.json and the weights, such as a download of
            facebook/wav2vec2-large-100k-voxpopuli.
        device: such as "cpu" or "cuda:1"; by default a GPU if there is one.

    Raises:
        UserError: transformers is not installed, or the folder holds no wav2vec 2.0.
    """
    folder = Path(model_file_path)
    if not str(model_file_path) or not (folder / "config.json").is_file():
        raise UserError(
            f"{model_file_path or 'no folder'}: wav2vec 2.0 needs a local folder with config.json "
            "and weights, such as a download of facebook/wav2vec2-large-100k-voxpopuli"
        )
    try:
        from transformers import Wav2Vec2Model
    except ImportError as error:
        raise UserError(
            f"wav2vec 2.0 needs {error.name}, which is not installed: "
            "pip install 'audio-barlow-twins[wav2vec2]'"
        ) from error
    try:
        loaded: Any = Wav2Vec2Model.from_pretrained(
            folder, local_files_only=True, output_loading_info=True
        )
        network, report = loaded
        model = Wav2Vec2(network, _is_normalised(folder))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder}: cannot be loaded as wav2vec 2.0: {reason}") from error
    # transformers draws missing weights at random; fine-tuned models lack the mask embedding.
    if missing := sorted(set(report["missing_keys"]) - {"masked_spec_embed"}):
        raise UserError(f"{folder}: weights lack {', '.join(missing[:3])}; not wav2vec 2.0?")
    return on_device(model, device)


def _is_normalised(folder: Path) -> bool:
    """Return whether the model takes normalised clips, as is Hugging Face's default."""
    preprocessor = folder / "preprocessor_config.json"
    settings = json.loads(preprocessor.read_text()) if preprocessor.is_file() else {}
    return bool(settings.get("do_normalize", True))


def get_scene_embeddings(audio: Tensor, model: Wav2Vec2) -> Tensor:
    """Embed each clip as the mean over its frames; see `eval.hear`."""
    check_audio(audio)
    return model(audio).mean(dim=1)


def get_timestamp_embeddings(audio: Tensor, model: Wav2Vec2) -> tuple[Tensor, Tensor]:
    """Embed every frame at its centre: 12.5 ms, 32.5 ms, …; see `eval.hear`."""
    check_audio(audio)
    embeddings = model(audio)
    centres = model.receptive_field / 2 + model.stride * torch.arange(embeddings.shape[1])
    timestamps_ms = (1000 / SAMPLE_RATE * centres).to(embeddings.device)
    return embeddings, timestamps_ms.expand(len(audio), -1)

"""The HEAR 2021 API: audio in, embeddings from a frozen encoder out.

from audio_barlow_twins.eval.hear import get_scene_embeddings, load_model

model = load_model("runs/first/encoder.pt")
embeddings = get_scene_embeddings(audio, model)  # audio: float [N, samples] at 16 kHz
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from audio_barlow_twins.model.embedder import Embedder
from audio_barlow_twins.model.embedder import load_model as load_model
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.transfer import to_device


@torch.no_grad()
def get_scene_embeddings(audio: Tensor, model: Embedder) -> Tensor:
    """Embed each clip as a whole.

    Args:
        audio: float [N, samples] in [-1, 1] at `model.sample_rate`; any number of samples.

    Returns:
        float32 [N, model.scene_embedding_size], on the model's device.
    """
    check_audio(audio)
    passes = audio.split(model.clips_per_pass(audio.shape[1]))
    return torch.cat([model(clips) for clips in passes])


@torch.no_grad()
def get_timestamp_embeddings(
    audio: Tensor, model: Embedder, hop_ms: float = 50.0, window_ms: float = 950.0
) -> tuple[Tensor, Tensor]:
    """Embed a window centred on every timestamp.

    Clips are padded with half a window of zeros on either side. Timestamps run from 0 to the clip's
    duration inclusive.

    Args:
        audio: float [N, samples] in [-1, 1] at `model.sample_rate`.
        hop_ms: from one timestamp to the next.

    Returns:
        Embeddings float32 [N, T, model.timestamp_embedding_size] and timestamps in milliseconds
        float32 [N, T], both on the model's device.
    """
    check_audio(audio)
    if hop_ms <= 0 or window_ms <= 0:
        raise UserError(f"hop_ms is {hop_ms} and window_ms {window_ms}; both must be above 0")
    samples_per_ms = model.sample_rate / 1000
    window = round(window_ms * samples_per_ms)
    count = int(audio.shape[1] / (hop_ms * samples_per_ms) + 1e-9) + 1
    timestamps_ms = torch.arange(count, dtype=torch.float64) * hop_ms
    starts = to_device((timestamps_ms * samples_per_ms).round().long(), audio.device)
    padded = F.pad(audio, (window // 2, window - window // 2))
    rows = torch.arange(len(audio), device=audio.device).repeat_interleave(count)
    embeddings = embed_windows(model, padded, rows, starts.repeat(len(audio)), window)
    return (
        embeddings.view(len(audio), count, -1),
        to_device(timestamps_ms.float(), embeddings.device).expand(len(audio), -1),
    )


def embed_windows(
    model: Embedder, audio: Tensor, rows: Tensor, starts: Tensor, window: int
) -> Tensor:
    """Embed `audio[rows[i], starts[i] : starts[i] + window]` for each i, float32 [i, D].

    `rows` and `starts` are where `audio` is, so that a GPU is not waited for between passes.
    """
    offsets = torch.arange(window, device=audio.device)
    size = model.clips_per_pass(window)
    embeddings = [
        model(audio[some_rows[:, None], some[:, None] + offsets])
        for some_rows, some in zip(rows.split(size), starts.split(size), strict=True)
    ]
    return torch.cat(embeddings)


def check_audio(audio: Tensor) -> None:
    """Raise UserError unless `audio` is a batch of float waveforms [N, samples]."""
    if audio.ndim != 2 or not audio.is_floating_point() or not len(audio):
        shape = "x".join(map(str, audio.shape))
        raise UserError(f"audio is {audio.dtype} of shape {shape}; wanted float [clips, samples]")

"""The one definition of log-mel: 16 kHz mono in, natural log of mel power out, time first."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..base.device import exactly
from ..base.errors import UserError
from .front_end import PCM16_SCALE, FrontEnd, LogMelBackend

BLOCK = 64
"""Frames transformed at a time on the CPU."""


class LogMel(nn.Module):
    """Waveform to log-mel, float32 whatever autocast says.

    A full-scale sine has power (window / 4)^2 = 65,536, above float16's largest number. nnAudio's
    convolutions do the transform on a GPU. They are slow on the CPU, where an FFT in float64 gives
    the same numbers. The two differ only in mel bins far below the loudest of their frame, where
    nnAudio's float32 kernels round (see README).

    Args:
        backend: nnaudio or fft, on any device; auto: nnaudio, but fft on the CPU.
    """

    def __init__(self, front_end: FrontEnd | None = None, backend: LogMelBackend = "auto") -> None:
        super().__init__()
        self.front_end, self.backend = front_end or FrontEnd(), backend
        self.reference = _nnaudio(self.front_end)
        window = torch.hann_window(self.front_end.window, dtype=torch.float64)
        self.window: Tensor
        self.register_buffer("window", window, persistent=False)
        self.floor: Tensor
        self.register_buffer("floor", self._floor(), persistent=False)

    def backend_on(self, device: torch.device) -> Literal["nnaudio", "fft"]:
        """Return what does the transform on a device."""
        if self.backend != "auto":
            return self.backend
        return "fft" if device.type == "cpu" else "nnaudio"

    def forward(self, wave: Tensor) -> Tensor:
        """Compute log-mel frames.

        Args:
            wave: float [N, samples] in [-1, 1], or int16 PCM; more than window / 2 samples.

        Returns:
            Natural log of mel power, float32 [N, T, n_mels], T = samples // hop + 1.
        """
        least = self.front_end.least_samples
        if wave.shape[-1] < least:
            raise ValueError(f"wave has {wave.shape[-1]} samples, log-mel needs at least {least}")
        if wave.dtype == torch.int16:
            wave = wave / PCM16_SCALE
        with torch.autocast(wave.device.type, enabled=False):
            fft = self.backend_on(wave.device) == "fft"
            power = self._power_fft(wave) if fft else self._power(wave)
            return torch.log(power + self.floor).transpose(1, 2).contiguous()

    def _floor(self) -> Tensor:
        """Return what is added to the mel power of each bin, float32 [n_mels, 1].

        The filters are linear: eps before them is eps times the sum of their weights after them.
        """
        weights = self.reference.get_buffer("mel_basis").double().sum(dim=1, keepdim=True)
        floor = (self.front_end.mel_eps + self.front_end.power_eps * weights).float()
        if not bool((floor > 0).all()):
            raise UserError("a mel bin of silence has no logarithm; choose mel_eps above 0")
        return floor

    def _power(self, wave: Tensor) -> Tensor:
        """Return mel power by nnAudio without TensorFloat-32, float32 [N, n_mels, T]."""
        return exactly(self.reference, wave.float())

    def _power_fft(self, wave: Tensor) -> Tensor:
        """Return mel power by FFT in float64, as float32 [N, n_mels, T].

        On a CPU, it takes a block of frames at a time: intermediate results then stay in its cache.
        """
        size, hop = self.front_end.window, self.front_end.hop
        basis = self.reference.get_buffer("mel_basis").double().T.contiguous()
        margin = (size // 2, size // 2)
        padded = pad(wave.double()[:, None], margin, mode="reflect")[:, 0]
        framed = padded.unfold(-1, size, hop)
        # A tracer cannot unroll a loop over an unknown number of frames.
        whole = torch.compiler.is_compiling() or wave.device.type != "cpu"
        blocks = [framed] if whole else framed.split(BLOCK, dim=1)
        power = []
        for frames in blocks:
            spectrum = torch.fft.rfft(frames * self.window)
            power.append((spectrum.real.square() + spectrum.imag.square()) @ basis)
        return torch.cat(power, dim=1).float().transpose(1, 2)


def stored_logmel(log_mel: LogMel, samples: np.ndarray) -> np.ndarray:
    """Return what a log-mel set stores of a clip, int16 [samples], as float16 [T, n_mels]."""
    with torch.inference_mode():
        return log_mel(torch.from_numpy(samples)[None])[0].numpy().astype(np.float16)


def _nnaudio(front_end: FrontEnd) -> nn.Module:
    from nnAudio.features.mel import MelSpectrogram  # large, with SciPy; readers need neither

    return MelSpectrogram(
        sr=front_end.sample_rate,
        n_fft=front_end.window,
        win_length=front_end.window,
        hop_length=front_end.hop,
        n_mels=front_end.n_mels,
        fmin=front_end.f_min_hz,
        fmax=front_end.f_max_hz,
        window="hann",
        center=True,
        pad_mode="reflect",
        power=2.0,
        htk=front_end.mel_scale == "htk",
        norm=1 if front_end.mel_norm == "slaney" else None,
        verbose=False,
    )

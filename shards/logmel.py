"""The one definition of log-mel: 16 kHz mono in, natural log of mel power out, time first."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from .cli import UserError

LOG_EPS = torch.finfo(torch.float32).eps
"""Added to the mel power before the logarithm in the paper: float32 eps."""

PCM16_SCALE = 32768.0

MelScale = Literal["htk", "slaney"]
MelNorm = Literal["none", "slaney"]

_FIXED: dict[str, str | int | float] = {
    "stft_window": "hann",
    "padding": "centred, reflect",
    "power": 2.0,
}
_FLOATS = ("f_min_hz", "f_max_hz", "mel_eps", "power_eps")


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """The numbers that make a log-mel; the defaults are those of the Audio Barlow Twins paper."""

    sample_rate: int = 16000
    """Samples per second of the waveform, Hz."""
    window: int = 1024
    """Length of the Hann window and of the Fourier transform, samples (64 ms at 16 kHz)."""
    hop: int = 160
    """Distance between frames, samples (10 ms at 16 kHz)."""
    n_mels: int = 64
    """Number of mel bins."""
    f_min_hz: float = 60.0
    """Lower edge of the lowest mel filter, Hz."""
    f_max_hz: float = 7800.0
    """Upper edge of the highest mel filter, Hz."""
    mel_scale: MelScale = "htk"
    """htk: logarithmic throughout; slaney: linear up to 1 kHz (librosa's default)."""
    mel_norm: MelNorm = "none"
    """none: filters have a peak of 1; slaney: an area of 1 (librosa's default)."""
    mel_eps: float = LOG_EPS
    """Added to the mel power, after the filters; 0 or more."""
    power_eps: float = 0.0
    """Added to the power of every frequency, before the filters; 0 or more."""

    def __post_init__(self) -> None:
        for name, choices in (("mel_scale", MelScale), ("mel_norm", MelNorm)):
            if getattr(self, name) not in get_args(choices):
                wanted = " or ".join(get_args(choices))
                raise UserError(f"{name} is {getattr(self, name)}, wanted {wanted}")
        if not (0 <= self.mel_eps < math.inf and 0 <= self.power_eps < math.inf):
            raise UserError(
                f"mel_eps is {self.mel_eps} and power_eps {self.power_eps}; choose 0 or more"
            )
        if not 0 <= self.f_min_hz < self.f_max_hz <= self.sample_rate / 2:
            raise UserError(
                f"mel range is {self.f_min_hz}-{self.f_max_hz} Hz; "
                f"choose 0 <= f_min < f_max <= {self.sample_rate / 2:g}"
            )
        if min(self.window, self.hop, self.n_mels) < 1 or self.window % 2:
            raise UserError("window, hop and n_mels must be at least 1, and the window even")

    def parameters(self) -> dict[str, str | int | float]:
        """Return everything that defines the numbers, as plain values for files."""
        # 60 and 60.0 are equal, but not as text, which the digest hashes.
        own: dict[str, str | int | float] = asdict(self)
        own |= {name: float(own[name]) for name in _FLOATS}
        # What was not a parameter once is left out at its default, so that older hashes hold.
        for name, default in (("mel_eps", LOG_EPS), ("power_eps", 0.0)):
            if own[name] == default:
                del own[name]
        return {**own, **_FIXED, "logarithm": f"natural, of power + {self.mel_eps:.8g}"}

    @property
    def least_samples(self) -> int:
        """Shortest waveform that reflect padding allows."""
        return self.window // 2 + 1

    def digest(self) -> str:
        """Return the hash that sidecars and checkpoints carry, 32 hex digits."""
        return parameters_digest(self.parameters())

    @classmethod
    def from_parameters(cls, parameters: dict[str, str | int | float]) -> "FrontEnd":
        """Rebuild from `parameters()`.

        Raises:
            UserError: a property that this code cannot change differs, for instance the padding.
        """
        own = {name: parameters[name] for name in asdict(cls()) if name in parameters}
        front_end = cls(**own)  # type: ignore[arg-type]
        if difference := parameters_difference(front_end.parameters(), parameters):
            raise UserError(f"this log-mel cannot be made here: {difference}")
        return front_end


def parameters_digest(parameters: dict[str, str | int | float]) -> str:
    """Hash plain parameters independently of their order, 32 hex digits."""
    text = json.dumps(parameters, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def parameters_difference(wanted: dict, found: dict) -> str:
    """Name every parameter that differs, '' if none does."""
    names = sorted(wanted.keys() | found.keys())
    return ", ".join(
        f"{name} is {found.get(name, 'missing')}, wanted {wanted.get(name, 'none')}"
        for name in names
        if wanted.get(name) != found.get(name)
    )


BLOCK = 64
"""Frames that are transformed at a time on the CPU."""


class LogMel(nn.Module):
    """Waveform to log-mel, float32 whatever autocast says.

    A full-scale sine has power (window / 4)^2 = 65,536, above float16's largest number.
    On a device nnAudio's convolutions do the transform; on the CPU, where they are several times
    slower, an FFT in float64 gives the same numbers. The two differ where a mel bin lies some
    100 dB under the loudest one of its frame: there nnAudio's float32 kernels round (docs: README).
    """

    def __init__(self, front_end: FrontEnd | None = None) -> None:
        super().__init__()
        self.front_end = front_end or FrontEnd()
        self.reference = _nnaudio(self.front_end)
        window = torch.hann_window(self.front_end.window, dtype=torch.float64)
        self.window: Tensor
        self.register_buffer("window", window, persistent=False)
        self.floor: Tensor
        self.register_buffer("floor", self._floor(), persistent=False)

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
            power = self._power_fft(wave) if wave.device.type == "cpu" else self._power(wave)
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
        """Mel power by nnAudio's convolutions without TensorFloat-32, float32 [N, n_mels, T]."""
        matmul = torch.backends.cuda.matmul
        allowed, matmul.allow_tf32 = matmul.allow_tf32, False
        try:
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                return self.reference(wave.float())
        finally:
            matmul.allow_tf32 = allowed

    def _power_fft(self, wave: Tensor) -> Tensor:
        """Mel power by FFT in float64, returned as float32 [N, n_mels, T].

        Some frames at a time: what is between the steps stays in the cache, which makes it three
        times as fast as one large transform.
        """
        size, hop = self.front_end.window, self.front_end.hop
        basis = self.reference.get_buffer("mel_basis").double().T.contiguous()
        margin = (size // 2, size // 2)
        padded = pad(wave.double()[:, None], margin, mode="reflect")[:, 0]
        framed = padded.unfold(-1, size, hop)
        # What traces the module cannot unroll a loop over a number of frames that it does not know.
        blocks = [framed] if torch.compiler.is_compiling() else framed.split(BLOCK, dim=1)
        power = []
        for frames in blocks:
            spectrum = torch.fft.rfft(frames * self.window)
            power.append((spectrum.real.square() + spectrum.imag.square()) @ basis)
        return torch.cat(power, dim=1).float().transpose(1, 2)


def stored_logmel(log_mel: LogMel, samples: np.ndarray) -> np.ndarray:
    """Compute what a log-mel set stores of one clip: int16 [samples] to float16 [T, n_mels]."""
    with torch.inference_mode():
        return log_mel(torch.from_numpy(samples)[None])[0].numpy().astype(np.float16)


def _nnaudio(front_end: FrontEnd) -> nn.Module:
    from nnAudio.features.mel import MelSpectrogram  # 66 MB with SciPy, which readers do not need

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

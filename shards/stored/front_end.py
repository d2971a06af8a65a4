"""The numbers that make a log-mel, and their hash; nothing here needs torch."""

import math
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from ..base.digest import digest_of
from ..base.errors import UserError

LOG_EPS = 2.0**-23
"""Added to the mel power before the logarithm in the paper: float32 eps."""

PCM16_SCALE = 32768.0

MelScale = Literal["htk", "slaney"]

MelNorm = Literal["none", "slaney"]

LogMelBackend = Literal["auto", "nnaudio", "fft"]

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
        """Return everything that defines the numbers, as plain values."""
        # 60 and 60.0 are equal, but not as text, which the digest hashes.
        own: dict[str, str | int | float] = asdict(self)
        own |= {name: float(own[name]) for name in _FLOATS}
        # Parameters that were added later are left out at their default: older hashes stay valid.
        for name, default in (("mel_eps", LOG_EPS), ("power_eps", 0.0)):
            if own[name] == default:
                del own[name]
        return {**own, **_FIXED, "logarithm": f"natural, of power + {self.mel_eps:.8g}"}

    @property
    def least_samples(self) -> int:
        """Shortest waveform that reflect padding allows."""
        return self.window // 2 + 1

    def digest(self) -> str:
        """Return the hash kept in sidecars and checkpoints, 32 hex digits."""
        return digest_of(self.parameters())

    @classmethod
    def from_parameters(cls, parameters: dict[str, str | int | float]) -> "FrontEnd":
        """Rebuild from `parameters()`.

        Raises:
            UserError: they differ in what this code cannot change, for instance the padding.
        """
        own = {name: parameters[name] for name in asdict(cls()) if name in parameters}
        front_end = cls(**own)  # type: ignore[arg-type]
        if difference := parameters_difference(front_end.parameters(), parameters):
            raise UserError(f"this log-mel cannot be made here: {difference}")
        return front_end


def parameters_difference(wanted: dict, found: dict) -> str:
    """Return a text that names every parameter that differs, '' if none does."""
    names = sorted(wanted.keys() | found.keys())
    return ", ".join(
        f"{name} is {found.get(name, 'missing')}, wanted {wanted.get(name, 'none')}"
        for name in names
        if wanted.get(name) != found.get(name)
    )

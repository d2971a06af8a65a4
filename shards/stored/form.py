"""The two kinds of stored clip: how an array becomes a tar member, and where its frames begin."""

import io
import wave as wave_file
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..base.digest import digest_of
from ..base.errors import UserError
from .front_end import PCM16_SCALE, FrontEnd, parameters_difference

FORMAT_VERSION = 2

WAVE_PARAMETERS: dict[str, str | int | float] = {"sample_rate": 16000, "encoding": "pcm16 mono"}


@dataclass(frozen=True)
class Form:
    """What the clips of a shard set are; every array has time on its leading axis."""

    kind: Literal["wave", "logmel"]
    """wave: int16 [samples] as `.wav`; logmel: float16 [T, n_mels] as `.npy`."""
    parameters: dict[str, str | int | float] = field(default_factory=dict)
    """Everything that defines the numbers."""

    @property
    def digest(self) -> str:
        """Hash of the parameters, 32 hex digits; sets with other hashes do not mix."""
        return digest_of(self.parameters)

    @property
    def dtype(self) -> np.dtype:
        """Element type on disk (little endian)."""
        return np.dtype("<i2" if self.kind == "wave" else "<f2")

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Shape of one frame: () for a sample, (n_mels,) for a log-mel frame."""
        return () if self.kind == "wave" else (int(self.parameters["n_mels"]),)

    @property
    def frame_bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.frame_shape, dtype=int))

    @property
    def suffix(self) -> str:
        return "wav" if self.kind == "wave" else "npy"

    @property
    def frames_per_s(self) -> float:
        return float(self.parameters["sample_rate"]) / float(self.parameters.get("hop", 1))

    def encode(self, array: np.ndarray) -> bytes:
        """Return one clip as the bytes of its file; the frames are the last bytes."""
        if array.dtype != self.dtype or array.shape[1:] != self.frame_shape:
            raise ValueError(
                f"a {self.kind} clip is {self.dtype} [T, *{self.frame_shape}], "
                f"got {array.dtype} {array.shape}"
            )
        buffer = io.BytesIO()
        if self.kind == "wave":
            with wave_file.open(buffer, "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(int(self.parameters["sample_rate"]))
                file.writeframes(array.tobytes())
        else:
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0))
        return buffer.getvalue()

    def require(self, wanted: "Form", where: str) -> None:
        """Raise UserError, naming what differs, if this is another kind or front-end."""
        if self.kind != wanted.kind:
            raise UserError(f"{where} holds {self.kind} clips, wanted {wanted.kind}")
        if self.digest != wanted.digest:
            difference = parameters_difference(wanted.parameters, self.parameters)
            raise UserError(f"{where} has another front-end: {difference}")


def wave_form() -> Form:
    """Return the form of wave sets: 16 kHz mono PCM16."""
    return Form("wave", dict(WAVE_PARAMETERS))


def logmel_form(front_end: FrontEnd) -> Form:
    """Return the form of log-mel sets made with `front_end`.

    Raises:
        UserError: the front-end is for waveforms of another rate than the stored ones.
    """
    if front_end.sample_rate != WAVE_PARAMETERS["sample_rate"]:
        raise UserError(
            f"the front-end is for {front_end.sample_rate} Hz, but clips are stored at "
            f"{WAVE_PARAMETERS['sample_rate']} Hz; leave sample_rate alone"
        )
    return Form("logmel", front_end.parameters())


def to_pcm16(wave: np.ndarray) -> np.ndarray:
    """Round a waveform, float [...] in [-1, 1), to int16; what is louder is clipped."""
    return np.clip(np.rint(wave * PCM16_SCALE), -PCM16_SCALE, PCM16_SCALE - 1).astype(np.int16)

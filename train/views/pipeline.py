"""Two views of every clip: the chosen augmentations, one after the other."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from audio_barlow_twins.shards.base.errors import UserError

from .add import Background, ColouredNoise, Reverb
from .bank import Bank
from .draws import Draws
from .dynamics import Compression
from .equaliser import BandPass, Bandwidth, Equaliser, HighPass, LowPass
from .level import Clipping, Fade, Gain, Polarity
from .logmel import Mixup, Noise, RandomLinearFader, RandomResizeCrop
from .norm import Gather, RunningNorm, SetNorm
from .time import PitchShift, TimeMask, TimeShift, TimeStretch

LogmelName = Literal["mixup", "rrc", "rlf", "noise"]
WaveName = Literal[
    "time-stretch", "pitch-shift", "equaliser", "low-pass", "high-pass", "band-pass", "compression",
    "clipping", "reverb", "background", "coloured-noise", "bandwidth", "time-shift", "time-mask",
    "fade", "polarity", "gain",
]  # fmt: skip
ViewName = Literal[WaveName, LogmelName]
PAPER: tuple[LogmelName, ...] = ("mixup", "rrc", "rlf")
"""What the paper settles on, in its order."""


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """How strong each augmentation may be; the field's name is the one that --views takes."""

    mixup: Mixup = field(default_factory=Mixup)
    """An earlier clip mixed in."""
    rrc: RandomResizeCrop = field(default_factory=RandomResizeCrop)
    """Random resize crop: a shift and a stretch in pitch and time."""
    rlf: RandomLinearFader = field(default_factory=RandomLinearFader)
    """Random linear fader: a fade in or out."""
    noise: Noise = field(default_factory=Noise)
    """Noise added."""
    bank: int = 2048
    """Number of last clips to mix from."""
    time_stretch: TimeStretch = field(default_factory=TimeStretch)
    """Faster or slower at the same pitch."""
    pitch_shift: PitchShift = field(default_factory=PitchShift)
    """Higher or lower at the same speed."""
    equaliser: Equaliser = field(default_factory=Equaliser)
    """Bells and shelves in the spectrum."""
    low_pass: LowPass = field(default_factory=LowPass)
    """High frequencies cut off."""
    high_pass: HighPass = field(default_factory=HighPass)
    """Low frequencies cut off."""
    band_pass: BandPass = field(default_factory=BandPass)
    """All but a band cut off."""
    compression: Compression = field(default_factory=Compression)
    """Loud parts made quieter."""
    clipping: Clipping = field(default_factory=Clipping)
    """Peaks cut off."""
    reverb: Reverb = field(default_factory=Reverb)
    """A room."""
    background: Background = field(default_factory=Background)
    """An earlier clip behind the clip."""
    coloured_noise: ColouredNoise = field(default_factory=ColouredNoise)
    """Noise from brown to violet."""
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    """Recorded at a lower sample rate."""
    time_shift: TimeShift = field(default_factory=TimeShift)
    """Earlier or later."""
    time_mask: TimeMask = field(default_factory=TimeMask)
    """A piece silenced."""
    fade: Fade = field(default_factory=Fade)
    """Faded in and out."""
    polarity: Polarity = field(default_factory=Polarity)
    """Turned upside down."""
    gain: Gain = field(default_factory=Gain)
    """Louder or quieter."""
    wave_bank: int = 256
    """Number of last clips that serve as background."""

    def __post_init__(self) -> None:
        if min(self.bank, self.wave_bank) < 1:
            raise UserError(
                f"ranges.bank is {self.bank}, ranges.wave_bank {self.wave_bank}; choose 1 or more"
            )

    def chain(self, names: Iterable[ViewName]) -> dict[str, Any]:
        """Look up augmentations by their names, in the given order."""
        return {name: getattr(self, name.replace("-", "_")) for name in names}


def split_views(
    names: tuple[ViewName, ...],
) -> tuple[tuple[ViewName, ...], tuple[ViewName, ...]]:
    """Split augmentations into those of waveforms, which come first, and those of log-mel.

    Raises:
        UserError: one is unknown or named twice, or they are in an impossible order.
    """
    waves = tuple(name for name in names if name in get_args(WaveName))
    log_mels = tuple(name for name in names if name in get_args(LogmelName))
    if sorted(waves + log_mels) != sorted({*names}):
        known = ", ".join(get_args(ViewName))
        raise UserError(f"views are {' '.join(names)}; choose from {known}, each at most once")
    if waves + log_mels != names:
        raise UserError(
            f"views are {' '.join(names)}; those of waveforms ({', '.join(waves)}) come before "
            f"those of log-mel ({', '.join(log_mels)})"
        )
    return waves, log_mels


class Views(nn.Module):
    """Make two views of every clip of a batch.

    The bank holds the last clips of all processes as they were read, in the order of the global
    batch, on each of them; so the clip that is mixed in does not depend on how many processes share
    the batch. Every augmentation draws from streams of its own, so leaving one out does not change
    the others.

    Args:
        names: augmentations of log-mel, in their order.
        ranges: how strong they are.
        norm: how log-mel is normalised.
        shape: of a clip, (T, F).
        device: where the clips lie.
        gather: collects the clips of all processes in the order of the global batch.
    """

    def __init__(
        self,
        names: tuple[ViewName, ...],
        ranges: Ranges,
        norm: SetNorm | RunningNorm,
        shape: tuple[int, int],
        device: torch.device | None = None,
        gather: Gather = lambda x: x,
    ) -> None:
        super().__init__()
        self.chain = ranges.chain(names)
        self.norm, self.gather = norm, gather
        self.mixes = "mixup" in names
        self.learns = self.mixes or isinstance(norm, RunningNorm)
        """Whether clips before their augmentation are of use."""
        self.bank = Bank(ranges.bank if self.mixes else 1, shape, device, read=norm)

    @torch.no_grad()
    def forward(self, x: Tensor, keys_a: Tensor, keys_b: Tensor) -> tuple[Tensor, Tensor]:
        """Make both views, then store the clips in the bank.

        Args:
            x: log-mel, float [N, T, F].
            keys_a: key of the random stream of every clip's view A, int64 [N], on the device of x.
            keys_b: the same for view B.

        Returns:
            Views A and B, normalised, each float32 [N, T, F].
        """
        x = x.float()
        with torch.autocast(device_type=x.device.type, enabled=False):
            views = self.make(torch.cat([x, x]), x, Draws(torch.cat([keys_a, keys_b])))
        self.remember(x)
        view_a, view_b = views.split(len(x))
        return view_a, view_b

    def make(self, both: Tensor, plain: Tensor | None, draws: Draws) -> Tensor:
        """Make the views of one batch.

        Args:
            both: log-mel of which views A, then views B are made, float32 [2N, T, F].
            plain: the clips before any augmentation, float32 [N, T, F], if the views learn.
            draws: one stream for each view.

        Returns:
            Normalised views, float32 [2N, T, F].
        """
        if plain is not None:
            self.norm.learn(plain)
        views = self.norm(both)
        for name, view in self.chain.items():
            views = view(views, draws.of(name), self.bank)
        return self.norm.finish(views)

    def remember(self, x: Tensor) -> None:
        """Store a batch of clips [N, T, F] in the bank, with those of the other processes."""
        if self.mixes:
            self.bank.push(self.gather(x.float()))

    @property
    def memory(self) -> int:
        """Number of last clips that the next views depend on."""
        return self.bank.capacity if self.mixes else 0

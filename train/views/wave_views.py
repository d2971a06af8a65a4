"""Chains of views of waveforms, and those that presets are made of."""

import torch
from torch import Tensor

from .add import Background, ColouredNoise, Reverb
from .base import Drawn, Setting, WaveView, fit
from .draws import Draws
from .dynamics import Compression
from .equaliser import Bandwidth, Equaliser
from .level import Clipping, Fade, Gain, Polarity
from .time import PitchShift, TimeMask, TimeShift, TimeStretch

Chain = dict[str, WaveView]
"""Views by their name, in the order in which they are applied."""

_LIGHT: Chain = {
    "pitch-shift": PitchShift(cents=(-100, 100)),
    "equaliser": Equaliser(gain_db=(-6, 6)),
    "background": Background(snr_db=(10, 30)),
    "time-shift": TimeShift(shift_ms=(-100, 100)),
    "polarity": Polarity(),
    "gain": Gain(gain_db=(-6, 6)),
}
_KEEPING_PITCH: Chain = {
    "time-stretch": TimeStretch(),
    "equaliser": Equaliser(),
    "compression": Compression(),
    "reverb": Reverb(probability=0.3),
    "background": Background(),
    "coloured-noise": ColouredNoise(probability=0.3),
    "bandwidth": Bandwidth(probability=0.2),
    "time-shift": TimeShift(),
    "time-mask": TimeMask(),
    "polarity": Polarity(),
    "gain": Gain(),
}
WAVE_PRESETS: dict[str, Chain] = {
    "waveform-light": _LIGHT,
    "waveform-strong": {
        "pitch-shift": PitchShift(),
        **_KEEPING_PITCH,
        "clipping": Clipping(probability=0.2),
        "fade": Fade(),
    },
    "waveform-keeping-pitch": _KEEPING_PITCH,
}


@torch.no_grad()
def make_views(
    chain: Chain, x: Tensor, draws: Draws, setting: Setting
) -> tuple[Tensor, dict[str, Drawn]]:
    """Apply one view after the other, each with streams of its own.

    Args:
        chain: the views.
        x: waveforms, float32 [N, T]; `needed_samples` says how many are used.
        draws: streams of the N samples.
        setting: what the views must know; its `n_out` is the length of the result.

    Returns:
        Waveforms, float32 [N, n_out], zeros at the end where x was too short; and what each view
        drew, for `WaveView.describe`.
    """
    n_out = x.shape[1] if setting.n_out is None else setting.n_out
    x = x[:, : needed_samples(chain, n_out, setting.sample_rate)]
    every = {}
    with torch.autocast(x.device.type, enabled=False):
        for name, view in chain.items():
            every[name] = view.draw(draws.of(name))
            x = view.apply(x, every[name], setting)
    return fit(x, n_out), every


def needed_samples(chain: Chain, n_out: int, sample_rate: int) -> int:
    """Count the samples a clip must have for `n_out` without zeros at the end."""
    for view in reversed(chain.values()):
        n_out = view.needed_samples(n_out, sample_rate)
    return n_out

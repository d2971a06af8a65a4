"""Time stretch and pitch shift of waveforms by a phase vocoder, with a different rate per sample.

Frames are cut at the times that the output needs, each with a second one a synthesis hop earlier,
so that the phase advance over a hop is measured without unwrapping. Phases are locked to their
peak's (identity locking: Laroche and Dolson, "Improved phase vocoder time-scale modification of
audio", 1999); a bin belongs to the peak that is uphill of it.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from .constants import constant
from .resample import REACH, read_at

OVERLAP = 3
"""Windows that cover a sample; a synthesis hop is a window divided by this."""
CLIMBS = 2
"""Doublings of the way uphill: peaks up to 2^CLIMBS bins away are found."""
CACHED = 2**16
"""Samples of frames that a CPU processes at a time, so that they stay in its cache."""
SILENT = 1e-15
"""Product of two bins below which there is no phase to continue; the input's is used instead."""


def time_stretch(x: Tensor, rate: Tensor, n_out: int, sample_rate: int) -> Tensor:
    """Change the speed of waveforms, float32 [N, T] to [N, n_out], and keep their pitch.

    Sample n of the output sounds like sample n * rate of the input, with zeros from a window after
    its end; `needed_samples` says how long it must be. The rates [N] are speeds above 0: 2 is twice
    as fast. A gliding pitch is that of the input (rate - 1) / 2 synthesis hops later, 2 ms at 1.25.
    """
    return _stretch(x, rate, n_out, window_samples(sample_rate), None)


def needed_samples(n_out: int, rate: float, sample_rate: int) -> int:
    """Return how many samples `time_stretch` reads for `n_out` at a rate."""
    window = window_samples(sample_rate)
    hop = window // OVERLAP
    last = -(-n_out // hop) * hop  # the centre of the last frame
    return math.ceil(last * rate) + window // 2


def pitch_shift(x: Tensor, cents: Tensor, sample_rate: int, limit_cents: float = 1200.0) -> Tensor:
    """Change the pitch of waveforms, float32 [N, T], and keep their duration.

    They are stretched by the ratio of pitch, then resampled by it. What would alias is removed from
    the spectra first.

    Args:
        cents: change of pitch [N], hundredths of an equal-tempered semitone.
        limit_cents: larger changes up are clamped to it; a larger limit costs time.
    """
    window = window_samples(sample_rate)
    ratio = (cents.double().clamp(max=limit_cents) / 1200).exp2()
    most = 2 ** (max(limit_cents, 0) / 1200)
    n_long = math.ceil(x.shape[1] * most) + 2 * REACH
    # A Hann window's main lobe reaches 2 bins up.
    edge = window // 2 / ratio.clamp_min(1)[:, None] - 2
    kept = (edge - torch.arange(window // 2 + 1, device=x.device)).clamp(0, 1).to(x.dtype)
    kept = torch.where(ratio[:, None] > 1, kept, 1.0).to(torch.complex64)  # converted just once
    long = _stretch(x, (1 / ratio).to(x.dtype), n_long, window, kept)
    return read_at(long, ratio, x.shape[1], most)


def window_samples(sample_rate: int) -> int:
    """Return the length of the window: about 48 ms, three times a power of 2."""
    return OVERLAP * 2 ** round(math.log2(0.016 * sample_rate))


def _stretch(x: Tensor, rate: Tensor, n_out: int, window: int, kept: Tensor | None) -> Tensor:
    """Stretch [N, T] to [N, n_out]; `kept` [N, F] scales the bins of each sample's spectra."""
    hop = window // OVERLAP
    n_frames = -(-n_out // hop) + 1
    hann = constant(_hann, x.device, window)
    steps = torch.arange(n_frames, device=x.device)[:, None] * hop
    centres = (steps * rate).round().to(torch.int64).clamp(max=x.shape[1] + window)
    # Padded so that a frame one hop before the one centred at 0 begins at 0.
    padded = pad(x, (window // 2 + hop, 2 * window))
    starts = centres + torch.arange(len(x), device=x.device) * padded.shape[1]
    windows = padded.flatten().unfold(0, window, 1)
    out = x.new_zeros(len(x), (n_frames + OVERLAP) * hop)
    last = turns = None
    for begin, end in _blocks(n_frames, x, window):
        at = starts[begin:end]
        both = torch.stack([at + hop, at])
        frames = windows.index_select(0, both.flatten()).mul_(hann)
        spectra, before = torch.fft.rfft(frames).unflatten(0, both.shape)
        turned, turns = _lock(spectra, before, last, turns)
        last = spectra[-1]
        if kept is not None:
            turned *= kept
        _overlap_add(out, torch.fft.irfft(turned, n=window).mul_(hann), begin * hop)
    middle = slice(window // 2, window // 2 + n_out)
    return out[:, middle].div_(constant(_window_sum, x.device, window, n_frames)[middle])


def _blocks(n_frames: int, x: Tensor, window: int) -> list[tuple[int, int]]:
    """Return ranges of frames to process at a time: all at once except on a CPU."""
    size = n_frames
    if x.device.type == "cpu":
        size = max(1, CACHED // (window * len(x)))
    return [(begin, min(begin + size, n_frames)) for begin in range(0, n_frames, size)]


def _overlap_add(out: Tensor, grains: Tensor, start: int) -> None:
    """Add grains [K, N, window] to waveforms [N, T], the first at `start`, then every hop."""
    window = grains.shape[2]
    for part in range(min(OVERLAP, len(grains))):
        apart = grains[part::OVERLAP].transpose(0, 1)  # these do not overlap
        first = start + part * window // OVERLAP
        there = out[:, first : first + apart.shape[1] * window]
        there.unflatten(1, (-1, window)).add_(apart)


def _lock(
    spectra: Tensor, before: Tensor, last: Tensor | None, turns: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Rotate frames' phases so that each peak continues that of the frame before it in the output.

    Args:
        spectra: frames, complex [K, N, F].
        before: the frames one synthesis hop earlier in the input, complex [K, N, F].
        last: the frame before the first, complex [N, F]; None at the start.
        turns: the rotation of that frame, complex of modulus 1 [N, F].

    Returns:
        Rotated frames, complex [K, N, F], and the rotation of the last one, complex [N, F].
    """
    previous = _stack([before[0] if last is None else last, *spectra[:-1]])
    steps = (previous * before.conj()).add_(SILENT)
    steps *= _power(steps).rsqrt_()
    every = []
    for step, peaks in zip(steps, _peaks(_power(spectra)), strict=True):
        turns = (step if turns is None else step.mul_(turns)).gather(1, peaks)
        every.append(turns)
    return spectra * _stack(every), every[-1]


def _stack(frames: list[Tensor]) -> Tensor:
    """Stack frames; one alone is not copied."""
    return torch.stack(frames) if len(frames) > 1 else frames[0][None]


def _power(spectra: Tensor) -> Tensor:
    real, imaginary = torch.view_as_real(spectra).square().unbind(-1)
    return real + imaginary


def _peaks(power: Tensor) -> Tensor:
    """Return the peak uphill of each bin, int64 [K, N, F]; from a valley, the one above it."""
    falls = pad(power[..., :-1] - power[..., 1:], (1, 1))  # as if it ended level,
    falls[..., :1].fill_(-1)  # and rose to the first bin
    rises = falls.view(torch.int32) >> 31  # the sign: -1 where the next bin is higher, or else 0
    here = torch.arange(-1, power.shape[2] - 1, device=power.device, dtype=torch.int32)
    peaks = (here - rises[..., 1:] - (rises[..., 1:] | rises[..., :-1])).long()
    for _ in range(CLIMBS):
        peaks = peaks.gather(2, peaks)
    return peaks


def _hann(window: int) -> np.ndarray:
    return np.square(np.sin(np.pi * np.arange(window) / window)).astype(np.float32)


def _window_sum(window: int, n_frames: int) -> np.ndarray:
    """Return the sum of all frames' squared windows at every sample, float32 [samples]."""
    parts = np.square(_hann(window)).reshape(OVERLAP, -1)
    total = np.zeros((n_frames + OVERLAP - 1, parts.shape[1]), np.float32)
    for part in range(OVERLAP):
        total[part : part + n_frames] += parts[part]
    return total.reshape(-1)

"""Views that add sound to a waveform: coloured noise, another clip, a room."""

import math

import torch
from torch import Tensor

from .base import Drawn, ViewContext, WaveView, fit, number, span
from .draws import MAX_INTEGERS, WORD, Numbers, Range, normals
from .dsp.filter import decibels

SILENT = 1e-12


def add_at(x: Tensor, other: Tensor, snr_db: Tensor) -> Tensor:
    """Add another sound to waveforms, both float32 [N, T], at a ratio of energies.

    `snr_db` [N] is the energy of x over that of what is added, both over all of T. If either is
    silent, x stays unchanged.
    """
    energy, of_other = x.square().mean(1), other.square().mean(1)
    scale = (energy / of_other.clamp_min(SILENT)).sqrt() * decibels(-snr_db)
    return torch.addcmul(x, other, scale[:, None])


def coloured_noise(words: Tensor, slope_db: Tensor, n_samples: int) -> Tensor:
    """Return normal noise of any level, float32 [N, n_samples], with nothing at 0 Hz.

    Args:
        words: each sample's random bits, int64 [N].
        slope_db: change of the power spectral density per octave, dB [N]: 0 is white noise, -3
            pink, -6 brown, 3 blue.
    """
    bins = n_samples // 2 + 1
    spectrum = torch.view_as_complex(normals(words, 2 * bins).unflatten(1, (bins, 2)))
    bin_ = torch.arange(bins, device=words.device)
    level = decibels(slope_db[:, None] * bin_.clamp_min(1).log2()) * (bin_ > 0)
    return torch.fft.irfft(spectrum * level, n=n_samples)


def room_response(
    words: Tensor, rt60_s: Tensor, direct_db: Tensor, longest_s: float, sample_rate: int
) -> Tensor:
    """Return impulse responses of rooms: the direct sound, then noise that decays exponentially.

    Args:
        words: each sample's random bits, int64 [N].
        rt60_s: time in which the energy decays by 60 dB, seconds [N].
        direct_db: energy of the direct sound over that of the noise, dB [N].
        longest_s: length of the response, seconds; the noise is cut off there.

    Returns:
        Responses, float32 [N, samples]; the first sample is the direct sound, 1.
    """
    n_samples = max(2, math.ceil(longest_s * sample_rate))
    time = torch.arange(1, n_samples, device=words.device) / sample_rate
    decay = torch.exp(-3 * math.log(10) * time / rt60_s[:, None])
    tail = normals(words, n_samples - 1) * decay
    tail = tail * (decibels(-direct_db) / tail.square().sum(1).sqrt())[:, None]
    return torch.cat([torch.ones_like(tail[:, :1]), tail], 1)


def reverberate(x: Tensor, response: Tensor) -> Tensor:
    """Convolve waveforms [N, T] with responses [N, samples]; the tail after T is cut off."""
    n_samples = x.shape[1]
    size = 2 ** math.ceil(math.log2(n_samples + response.shape[1]))
    spectrum = torch.fft.rfft(x, n=size) * torch.fft.rfft(response, n=size)
    return torch.fft.irfft(spectrum, n=size)[:, :n_samples]


class ColouredNoise(WaveView, name="coloured-noise"):
    """Add noise of any colour."""

    snr_db: tuple[float, float] = span(3, 30, inside=(-60, 120), mild=40)
    """Lowest and highest ratio of the clip's energy to the noise's, dB."""
    slope_db: tuple[float, float] = span(-6, 3, inside=(-12, 12))
    """Range of the noise's slope, dB per octave: 0 white, -3 pink, -6 brown, 3 blue."""

    text = "noise of {slope_db:+.1f} dB an octave, {snr_db:.0f} dB below the clip"

    def numbers(self) -> Numbers:
        return super().numbers() | {"seed": WORD}

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        noise = coloured_noise(drawn["seed"], drawn["slope_db"], x.shape[1])
        return add_at(x, noise, drawn["snr_db"])


class Background(WaveView, name="background"):
    """Add an earlier clip; the first batch of a run stays unchanged."""

    snr_db: tuple[float, float] = span(3, 30, inside=(-60, 120), mild=40)
    """Lowest and highest ratio of the clip's energy to the other's, dB."""
    memory: int = number(256, inside=(1, MAX_INTEGERS))
    """Number of recent clips to choose from."""

    text = "another clip, {snr_db:.0f} dB below"

    def numbers(self) -> Numbers:
        """Return the range of `snr_db`, and `age` as a share of the earlier clips."""
        return super().numbers() | {"age": Range(0, 1)}

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        filled = context.bank.filled.clamp(max=self.memory)
        ages = (drawn["age"] * filled).to(torch.int64).minimum((filled - 1).clamp_min(0))
        return add_at(x, fit(context.bank.take(ages), x.shape[1]), drawn["snr_db"])


class Reverb(WaveView, name="reverb"):
    """Add the reverberation of a room."""

    rt60_s: tuple[float, float] = span(0.1, 0.8, inside=(0.01, 10), mild=0.05, octaves=True)
    """Shortest and longest time in which the energy decays by 60 dB, seconds."""
    direct_db: tuple[float, float] = span(-3, 15, inside=(-60, 60), mild=30)
    """Lowest and highest ratio of the direct sound's energy to the room's, dB."""

    text = "room of {rt60_s:.2f} s, {direct_db:.0f} dB below the direct sound"

    def numbers(self) -> Numbers:
        return super().numbers() | {"seed": WORD}

    def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
        response = room_response(
            drawn["seed"], drawn["rt60_s"], drawn["direct_db"], self.rt60_s[1], context.sample_rate
        )
        return reverberate(x, response)

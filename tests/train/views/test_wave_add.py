"""Added sound: ratios of energy, the noise's slope, the room's decay."""

import numpy as np
import pytest
import torch
from scipy import signal, stats

from audio_barlow_twins.train.views.add import add_at, coloured_noise, reverberate, room_response

RATE = 16000
SEEDS = torch.arange(6)


def test_what_is_added_lies_at_the_ratio_of_energies() -> None:
    x, other, snr_db = torch.randn(4, 500), 7 * torch.rand(4, 500), torch.tensor([-10.0, 0, 7, 30])
    added = add_at(x, other, snr_db) - x
    ratio = x.double().square().sum(1) / added.double().square().sum(1)
    np.testing.assert_allclose(10 * ratio.log10(), snr_db, atol=1e-3)
    np.testing.assert_allclose(np.corrcoef(added, other).diagonal(4), 1, atol=1e-5)


def test_silence_adds_nothing_and_to_silence_nothing_is_added() -> None:
    x, none, snr_db = torch.randn(2, 50), torch.zeros(2, 50), torch.zeros(2)
    assert torch.equal(add_at(x, none, snr_db), x)
    assert torch.equal(add_at(none, x, snr_db), none)


@pytest.mark.parametrize("slope_db", [-6.0, -3.0, 0.0, 3.0])
def test_noise_has_its_slope(slope_db: float) -> None:
    noise = coloured_noise(SEEDS, torch.full((6,), slope_db), 4 * RATE)
    frequencies, power = signal.welch(noise.double().numpy(), RATE, nperseg=2048)
    inside = (frequencies > 60) & (frequencies < 7500)
    octaves, level = np.log2(frequencies[inside]), 10 * np.log10(power.mean(0)[inside])
    assert np.polyfit(octaves, level, 1)[0] == pytest.approx(slope_db, abs=0.1)


def test_white_noise_is_normal_and_independent_between_samples() -> None:
    noise = coloured_noise(SEEDS, torch.zeros(6), 10_000).double().numpy()
    noise /= noise.std()
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(noise)[np.triu_indices(6, 1)]).max() < 0.05


@pytest.mark.parametrize("slope_db", [-12.0, 0.0, 12.0])
def test_noise_has_power_at_every_frequency_but_0_hz(slope_db: float) -> None:
    noise = coloured_noise(SEEDS, torch.full((6,), slope_db), 256).double()
    power = np.square(abs(np.fft.rfft(noise))).mean(0)
    assert power[0] < 1e-10 * power.sum()
    whitened = power[1:] * np.arange(1, 129) ** (-slope_db / (10 * np.log10(2)))
    assert whitened.min() > whitened.mean() / 20


@pytest.mark.parametrize("n_samples", [2, 3, 1000, 1001])
def test_noise_has_the_length_asked_for(n_samples: int) -> None:
    assert coloured_noise(SEEDS, torch.zeros(6), n_samples).shape == (6, n_samples)


@pytest.mark.parametrize("rt60_s", [0.1, 0.4, 1.0])
def test_rooms_decay_by_60_decibels_in_their_time(rt60_s: float) -> None:
    many = torch.arange(100)
    responses = room_response(many, torch.full((100,), rt60_s), torch.zeros(100), 1.5, RATE)
    power = responses[:, 1:].double().square().mean(0).numpy()
    decay = 10 * np.log10(power[::-1].cumsum()[::-1] / power.sum() + 1e-12)  # Schroeder
    inside = (decay < -5) & (decay > -35)
    slope = np.polyfit(np.flatnonzero(inside) / RATE, decay[inside], 1)[0]
    assert -60 / slope == pytest.approx(rt60_s, rel=0.03)


def test_the_direct_sound_comes_first_and_at_its_ratio() -> None:
    direct_db = torch.tensor([-6.0, 0, 3, 10, 20, 30])
    responses = room_response(SEEDS, torch.full((6,), 0.3), direct_db, 0.5, RATE).double()
    assert bool((responses[:, 0] == 1).all())
    np.testing.assert_allclose(-10 * responses[:, 1:].square().sum(1).log10(), direct_db, atol=1e-3)


def test_reverberation_is_a_convolution() -> None:
    x, response = torch.randn(2, 500), torch.randn(2, 77)
    for made, wave, h in zip(reverberate(x, response), x, response, strict=True):
        np.testing.assert_allclose(made, np.convolve(wave.double(), h.double())[:500], atol=1e-4)

"""Time stretch and pitch shift: pitch by independent estimates, duration, and known results."""

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor

from audio_barlow_twins.train.views.dsp.resample import read_at
from audio_barlow_twins.train.views.dsp.vocoder import (
    OVERLAP,
    needed_samples,
    pitch_shift,
    time_stretch,
    window_samples,
)

RATE = 16000
HOP = window_samples(RATE) // OVERLAP
NOTES = (
    *("bass_hard_c", "bass_thick_c", "bass_trance_c", "bass_voxy_c", "bass_woodsy_c"),
    *("ambi_drone", "ambi_glass_hum"),
)
"""Clips whose pitch is steady and which YIN finds."""


@pytest.fixture(scope="module")
def notes(demo_waves: dict[str, np.ndarray]) -> Tensor:
    """Cut a second and a half of each note, float32 [N, T]."""
    waves = [torch.from_numpy(demo_waves[name][:24000] / np.float32(32768)) for name in NOTES]
    return torch.stack([torch.nn.functional.pad(w, (0, 24000 - len(w))) for w in waves])


def tone(hz: float, n_samples: int) -> Tensor:
    """Make a sine, float32 [1, T]."""
    return torch.sin(2 * torch.pi * hz * torch.arange(n_samples).double() / RATE).float()[None]


def noise(n_samples: int) -> Tensor:
    """Draw normal noise, float32 [T]."""
    return torch.randn(n_samples, generator=torch.Generator().manual_seed(0))


def peak_hz(wave: Tensor) -> float:
    """Find the highest peak of the spectrum of a wave's middle."""
    middle = wave[len(wave) // 8 : -len(wave) // 8].double().numpy()
    spectrum = abs(np.fft.rfft(middle * np.hanning(len(middle)), 2**20))
    return float(spectrum.argmax()) * RATE / 2**20


def pitches(wave: Tensor) -> np.ndarray:
    """Estimate the pitch of every frame by YIN, Hz."""
    settings = {"fmin": 45, "fmax": 1500, "sr": RATE, "frame_length": 2048, "hop_length": 256}
    return librosa.yin(wave.numpy(), trough_threshold=0.05, **settings)


def cents(new: np.ndarray, old: np.ndarray) -> float:
    """Compare two tracks of pitch: the median interval, cents."""
    return float(np.median(1200 * np.log2(new / old)))


def convergence(made: Tensor, wanted: Tensor) -> float:
    """Measure how far the spectrogram of a wave [T] is from another's: 0 is equal, 1 is silence."""
    a, b = (
        abs(librosa.stft(w.numpy(), n_fft=512, hop_length=128))[:, 4:-4] for w in (made, wanted)
    )
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("shift", [-300.0, -70.0, 40.0, 300.0])
def test_the_pitch_of_notes_shifts_by_the_cents(notes: Tensor, shift: float) -> None:
    shifted = pitch_shift(notes, torch.full((len(notes),), shift), RATE, 300)
    for name, before, after in zip(NOTES, notes, shifted, strict=True):
        assert abs(cents(pitches(after), pitches(before)) - shift) < 5, name


@pytest.mark.parametrize("rate", [0.7, 0.9, 1.2, 1.5])
def test_stretching_leaves_the_pitch_of_notes(notes: Tensor, rate: float) -> None:
    n_out = int(notes.shape[1] / rate)
    stretched = time_stretch(notes, torch.full((len(notes),), rate), n_out, RATE)
    for name, before, after in zip(NOTES, notes, stretched, strict=True):
        old, new = pitches(before), pitches(after)
        at = (np.arange(len(new)) * rate).round().astype(int).clip(0, len(old) - 1)
        assert abs(cents(new, old[at])) < 5, name


@pytest.mark.parametrize("hz", [60, 440.7, 3000])
@pytest.mark.parametrize("shift", [-1200.0, -333.0, 1.0, 700.0, 1200.0])
def test_tones_shift_by_the_cents_and_keep_their_level(hz: float, shift: float) -> None:
    made = pitch_shift(tone(hz, 16000), torch.tensor([shift]), RATE)[0]
    assert 1200 * np.log2(peak_hz(made) / hz) == pytest.approx(shift, abs=2)
    assert float(made[2000:-2000].square().mean()) == pytest.approx(0.5, rel=0.02)


def sweep(n_samples: int, octaves: float) -> Tensor:
    """Sweep up from 250 Hz, float32 [T]."""
    hz = 250 * 2 ** (octaves * torch.arange(n_samples).double() / n_samples)
    return torch.sin(2 * torch.pi * hz.cumsum(0) / RATE).float()


@pytest.mark.parametrize("rate", [0.5, 0.8, 1.25, 1.5])
def test_a_sweep_goes_through_the_same_pitches_at_another_speed(rate: float) -> None:
    n_out = int(32000 / rate)
    made = time_stretch(sweep(32000, 1.5)[None], torch.tensor([rate]), n_out, RATE)[0]
    new, wanted = (pitches(wave)[16:-16] for wave in (made, sweep(n_out, 1.5)))
    assert float(np.abs(1200 * np.log2(new / wanted)).max()) < 10
    assert abs(cents(new, wanted)) < 5


@pytest.mark.parametrize("rate", [0.8, 1.25])
def test_a_fast_sweep_keeps_its_peak_together(rate: float) -> None:
    # Phases that are not locked to the peak's smear it: 0.3 and more.
    n_out = int(32000 / rate)
    made = time_stretch(sweep(32000, 4)[None], torch.tensor([rate]), n_out, RATE)[0]
    assert convergence(made, sweep(n_out, 4)) < 0.15


@pytest.mark.parametrize("rate", [0.8, 1.25, 1.5])
def test_a_decaying_note_equals_the_one_written_out(rate: float) -> None:
    def note(time: Tensor, clock: Tensor) -> Tensor:
        """Add partials of 220 Hz that decay by a clock."""
        partials = [
            (-2 * clock * (1 + h / 5)).exp() * torch.cos(h * (2 * torch.pi * 220 * time + h)) / h
            for h in range(1, 15)
        ]
        return sum(partials, torch.zeros_like(time)).float()

    time = torch.arange(32000).double() / RATE
    n_out = int(32000 / rate)
    made = time_stretch(note(time, time)[None], torch.tensor([rate]), n_out, RATE)[0]
    later = torch.arange(n_out).double() / RATE
    assert convergence(made, note(later, later * rate)) < 0.01


@pytest.mark.parametrize("rate", [0.7, 1.4])
def test_events_come_within_a_hop_of_their_time(rate: float) -> None:
    times = torch.arange(2000, 30000, 4000)
    x = torch.zeros(1, 32000)
    for time in times.tolist():
        x[0, time : time + 100] = noise(100)
    made = time_stretch(x, torch.tensor([rate]), int(32000 / rate), RATE)[0]
    for time in (times / rate).tolist():
        near = slice(round(time) - 2 * HOP, round(time) + 2 * HOP)
        energy = made[near].double().square()
        centre = float((energy * torch.arange(4 * HOP)).sum() / energy.sum())
        assert abs(centre - 2 * HOP - 50) < HOP


@pytest.mark.parametrize("shift", [-500.0, 500.0])
def test_pitch_shift_leaves_events_within_a_hop(shift: float) -> None:
    x = torch.zeros(1, 8000)
    x[0, 4000:4100] = noise(100)
    energy = pitch_shift(x, torch.tensor([shift]), RATE)[0].double().square()
    centre = float((energy * torch.arange(8000)).sum() / energy.sum())
    assert abs(centre - 4050) < HOP


def test_rate_one_and_no_cents_change_nothing(notes: Tensor) -> None:
    ones = torch.ones(len(notes))
    torch.testing.assert_close(time_stretch(notes, ones, 24000, RATE), notes, atol=1e-5, rtol=1e-4)
    shifted = pitch_shift(notes, 0 * ones, RATE)
    assert float((shifted - notes).square().mean() / notes.square().mean()) < 1e-4


def test_every_sample_has_its_own_rate_whatever_the_batch(notes: Tensor) -> None:
    rates = torch.linspace(0.6, 1.6, len(notes))
    together = time_stretch(notes, rates, 16000, RATE)
    for row, wave, rate in zip(together, notes, rates, strict=True):
        alone = time_stretch(wave[None], rate[None], 16000, RATE)[0]
        torch.testing.assert_close(row, alone, atol=1e-4, rtol=1e-3)


def test_all_frames_at_once_give_what_a_few_at_a_time_give(
    notes: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = torch.linspace(0.6, 1.6, len(notes))
    few = time_stretch(notes, rates, 16000, RATE)
    monkeypatch.setattr("audio_barlow_twins.train.views.dsp.vocoder.CACHED", 2**30)
    torch.testing.assert_close(time_stretch(notes, rates, 16000, RATE), few, atol=1e-4, rtol=1e-3)


def test_nothing_is_heard_of_what_would_lie_above_half_the_sample_rate() -> None:
    made = pitch_shift(tone(6000, 16000), torch.tensor([700.0]), RATE)[0]
    assert float(made[1000:-1000].abs().max()) < 1e-3


@pytest.mark.parametrize("rate", [0.5, 1.0, 1.7, 3.9])
def test_the_samples_that_are_needed_are_enough(rate: float) -> None:
    x = noise(80000)[None]
    needed = needed_samples(16000, rate, RATE)
    cut, whole = (time_stretch(w, torch.tensor([rate]), 16000, RATE) for w in (x[:, :needed], x))
    torch.testing.assert_close(cut, whole)


def test_a_clip_that_is_too_short_ends_in_zeros() -> None:
    made = time_stretch(noise(16000)[None], torch.tensor([2.0]), 16000, RATE)[0]
    assert float(made[8000 + 3 * HOP :].abs().max()) < 1e-6
    assert float(made[:7500].square().mean()) > 0.5


def test_silence_stays_silent_and_what_follows_it_sounds() -> None:
    x = torch.cat([torch.zeros(1, 8000), tone(500, 8000)], 1)
    made = time_stretch(x, torch.tensor([1.1]), 14000, RATE)[0]
    assert float(made[:6500].abs().max()) < 1e-6
    assert float(made[8500:13500].square().mean()) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("step", [0.79, 1.0, 1.26])
@pytest.mark.parametrize("hz", [50, 1000, 5000])
def test_reading_between_samples_equals_the_tone_there(step: float, hz: float) -> None:
    made = read_at(tone(hz, 8000), torch.tensor([step], dtype=torch.float64), 6000, 1.3)[0]
    expected = np.sin(2 * np.pi * hz * np.arange(6000) * step / RATE)
    np.testing.assert_allclose(made[50:-50], expected[50:-50], atol=1.5e-3)


def test_a_larger_bound_of_the_step_changes_nothing() -> None:
    x, step = noise(4000).view(2, 2000), torch.tensor([0.8, 1.1], dtype=torch.float64)
    near, far = (read_at(x, step, 1500, most) for most in (1.1, 3))
    torch.testing.assert_close(near, far, atol=1e-5, rtol=1e-5)


def test_reading_gives_zeros_outside_the_input() -> None:
    made = read_at(torch.ones(1, 100), torch.tensor([2.0], dtype=torch.float64), 200, 2)[0]
    assert float(made[:45].mean()) == pytest.approx(1, abs=0.02)
    assert bool((made[56:] == 0).all())

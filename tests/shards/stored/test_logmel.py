"""Log-mel against nnAudio as it ships, nnAudio with exact kernels, and librosa, on real sounds."""

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nnAudio.features.mel import MelSpectrogram
from torch import Tensor

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.front_end import FrontEnd, MelNorm, MelScale
from audio_barlow_twins.shards.stored.logmel import LogMel, stored_logmel

EPS = float(np.finfo(np.float32).eps)


def shipped_nnaudio() -> MelSpectrogram:
    return MelSpectrogram(
        sr=16000, n_fft=1024, win_length=1024, hop_length=160, n_mels=64, fmin=60.0, fmax=7800.0,
        window="hann", center=True, pad_mode="reflect", power=2.0, htk=True, norm=None,
        verbose=False,
    )  # fmt: skip


def exact_nnaudio() -> MelSpectrogram:
    """nnAudio in float64, with Fourier kernels that were not rounded to float32."""
    module = shipped_nnaudio().double()
    n = np.arange(1024)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / 1024)
    phase = 2 * np.pi * (np.outer(np.arange(513), n) % 1024) / 1024
    assert module.stft.wcos.shape == (513, 1, 1024)
    module.stft.wcos = torch.from_numpy(np.cos(phase) * hann)[:, None]
    module.stft.wsin = torch.from_numpy(np.sin(phase) * hann)[:, None]
    return module


def concatenated_logmel(power_of, waves: list[np.ndarray], dtype: torch.dtype) -> Tensor:
    """Log-mel of all clips under each other, float64 [frames, 64]."""
    parts = []
    for wave in waves:
        power = power_of(torch.from_numpy(wave / np.float32(32768)).to(dtype)[None])
        parts.append(torch.log(power + EPS)[0].T.double())
    return torch.cat(parts)


@pytest.fixture(scope="module")
def waves(demo_waves: dict[str, np.ndarray]) -> list[np.ndarray]:
    return list(demo_waves.values())


@pytest.fixture(scope="module")
def ours(waves: list[np.ndarray]) -> Tensor:
    log_mel = LogMel()
    return torch.cat([log_mel(torch.from_numpy(wave)[None])[0] for wave in waves]).double()


def test_every_value_equals_nnaudio_with_exact_kernels(
    ours: Tensor, waves: list[np.ndarray]
) -> None:
    exact = concatenated_logmel(exact_nnaudio(), waves, torch.float64)
    assert ours.shape == exact.shape
    assert (ours - exact).abs().max() < 1e-5


def test_values_equal_nnaudio_as_shipped_but_for_its_own_rounding(
    ours: Tensor, waves: list[np.ndarray]
) -> None:
    error = (ours - concatenated_logmel(shipped_nnaudio(), waves, torch.float32)).abs()
    assert error[ours > -3].max() < 1e-4
    assert (error < 1e-4).double().mean() > 0.97
    assert error.max() < 0.02


def test_values_equal_librosa(waves: list[np.ndarray]) -> None:
    log_mel = LogMel()
    for wave in waves[::4]:
        power = librosa.feature.melspectrogram(
            y=wave / 32768.0, sr=16000, n_fft=1024, hop_length=160, window="hann", center=True,
            pad_mode="reflect", power=2.0, n_mels=64, fmin=60.0, fmax=7800.0, htk=True, norm=None,
        )  # fmt: skip
        ours = log_mel(torch.from_numpy(wave)[None])[0].numpy()
        assert np.abs(ours - np.log(power.T + EPS)).max() < 1e-5


@pytest.mark.parametrize("scale", ["htk", "slaney"])
@pytest.mark.parametrize("norm", ["none", "slaney"])
def test_either_path_uses_the_filters_of_librosa(
    waves: list[np.ndarray], scale: MelScale, norm: MelNorm
) -> None:
    log_mel = LogMel(FrontEnd(mel_scale=scale, mel_norm=norm))
    for wave in waves[::20]:
        power = librosa.feature.melspectrogram(
            y=wave / 32768.0, sr=16000, n_fft=1024, hop_length=160, n_mels=64, fmin=60.0,
            fmax=7800.0, pad_mode="reflect", htk=scale == "htk",
            norm=None if norm == "none" else norm,
        )  # fmt: skip
        expected = torch.from_numpy(np.log(power.T + EPS))
        samples = torch.from_numpy(wave)[None]
        assert (log_mel(samples)[0] - expected).abs().max() < 1e-5
        on_device = torch.log(log_mel.reference(samples / 32768) + log_mel.floor)[0].T
        assert (on_device - expected).abs()[expected > -3].max() < 1e-4


def test_the_front_end_of_byol_a_v1_is_its_published_sum(waves: list[np.ndarray]) -> None:
    filters = librosa.filters.mel(sr=16000, n_fft=1024, n_mels=64, fmin=60, fmax=7800)
    eps = np.finfo(float).eps
    log_mel = LogMel(FrontEnd(mel_scale="slaney", mel_norm="slaney", power_eps=eps))
    for wave in [*waves[::40], np.zeros(2000, dtype=np.int16)]:
        spectrum = librosa.stft(wave / 32768, n_fft=1024, hop_length=160, pad_mode="reflect")
        expected = np.log(filters @ (np.abs(spectrum) ** 2 + eps) + EPS).T
        assert np.abs(log_mel(torch.from_numpy(wave)[None])[0].numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("power_eps", [1e-10, 1e-4])
def test_an_eps_before_the_filters_is_weighted_by_them(
    waves: list[np.ndarray], power_eps: float
) -> None:
    filters = librosa.filters.mel(
        sr=16000, n_fft=1024, n_mels=64, fmin=60, fmax=7800, htk=True, norm=None
    )
    log_mel = LogMel(FrontEnd(mel_eps=0, power_eps=power_eps))
    for wave in [waves[0], np.zeros(2000, dtype=np.int16)]:
        spectrum = librosa.stft(wave / 32768, n_fft=1024, hop_length=160, pad_mode="reflect")
        expected = np.log(filters @ (np.abs(spectrum) ** 2 + power_eps)).T
        assert np.abs(log_mel(torch.from_numpy(wave)[None])[0].numpy() - expected).max() < 1e-5


@pytest.mark.filterwarnings("ignore:Empty filters")
@pytest.mark.parametrize(
    "front_end",
    [FrontEnd(mel_eps=0), FrontEnd(mel_eps=0, power_eps=1e-9, n_mels=300)],
    ids=["no eps", "empty filters"],
)
def test_silence_without_a_logarithm_is_refused(front_end: FrontEnd) -> None:
    with pytest.raises(UserError, match="choose mel_eps above 0"):
        LogMel(front_end)


def test_integer_samples_give_what_float_samples_give(waves: list[np.ndarray]) -> None:
    log_mel, wave = LogMel(), torch.from_numpy(waves[0])[None]
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(log_mel(wave), log_mel(wave.to(dtype) / 32768))


def test_a_clip_does_not_depend_on_the_rest_of_its_batch(waves: list[np.ndarray]) -> None:
    log_mel = LogMel()
    batch = torch.stack([torch.from_numpy(wave[:1024]) for wave in waves[:5]])
    alone = torch.cat([log_mel(wave[None]) for wave in batch])
    torch.testing.assert_close(log_mel(batch), alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing_and_a_full_scale_sine_stays_finite(dtype: torch.dtype) -> None:
    wave = torch.sin(2 * torch.pi * 1000 / 16000 * torch.arange(16000, dtype=torch.float64))[None]
    log_mel = LogMel()
    with torch.autocast("cpu", dtype=dtype):
        values = log_mel(wave.float())
    assert values.dtype == torch.float32
    assert torch.equal(values, log_mel(wave.float()))
    # The sine falls on Fourier bin 64: power (1024 / 4)^2 there and a quarter of it beside it.
    mels = np.linspace(*(2595 * np.log10(1 + np.array([60, 7800]) / 700)), 66)
    edges_hz = 700 * (10 ** (mels / 2595) - 1)
    bins_hz = np.array([63, 64, 65]) * 16000 / 1024
    weights = [np.interp(bins_hz, edges_hz[i : i + 3], [0, 1, 0]) for i in range(64)]
    power = weights @ (65536 * np.array([0.25, 1, 0.25]))
    middle = values[0, 50].numpy()
    assert np.argmax(middle) == np.argmax(power)
    assert middle.max() == pytest.approx(np.log(power.max()), abs=1e-4)


def test_silence_is_the_logarithm_of_epsilon() -> None:
    assert torch.allclose(LogMel()(torch.zeros(1, 800)), torch.tensor(np.log(EPS)).float())


@given(
    samples=st.integers(513, 4000),
    hop=st.integers(1, 700),
    window=st.sampled_from([256, 400, 1024]),
)
def test_the_front_end_tells_the_number_of_frames(samples: int, hop: int, window: int) -> None:
    front_end = FrontEnd(hop=hop, window=window, n_mels=2)
    values = LogMel(front_end)(torch.zeros(2, samples))
    assert values.shape == (2, samples // hop + 1, 2)
    assert values.shape[1] == samples // front_end.hop + 1


def test_a_wave_that_reflection_cannot_pad_is_refused() -> None:
    log_mel = LogMel()
    assert log_mel(torch.zeros(1, 513)).shape == (1, 4, 64)
    with pytest.raises(ValueError, match="wave has 512 samples, log-mel needs at least 513"):
        log_mel(torch.zeros(1, 512))


def test_what_is_stored_is_log_mel_in_half_precision(ours: Tensor, waves: list[np.ndarray]) -> None:
    stored = stored_logmel(LogMel(), waves[0])
    assert stored.dtype == np.float16
    assert stored.flags.c_contiguous
    np.testing.assert_array_equal(stored, ours[: len(stored)].numpy().astype(np.float16))


def test_each_backend_does_on_any_device_what_it_says(
    waves: list[np.ndarray], ours: Tensor
) -> None:
    wave = torch.from_numpy(waves[0])[None]
    chosen = LogMel(backend="nnaudio")(wave)[0]
    power = shipped_nnaudio()(wave / 32768)[0].T
    torch.testing.assert_close(chosen, torch.log(power + EPS), atol=1e-5, rtol=1e-5)
    assert torch.equal(LogMel(backend="fft")(wave)[0].double(), ours[: len(chosen)])
    named = [LogMel(backend=name).backend_on(torch.device("cuda")) for name in ("auto", "fft")]
    assert named == ["nnaudio", "fft"]
    assert LogMel().backend_on(torch.device("cpu")) == "fft"

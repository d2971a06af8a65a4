"""Compression: against the compressor written out sample by sample."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audio_barlow_twins.train.views.level import compress

RATE = 16000


def compress_slowly(
    x: list[float], threshold: float, ratio: float, attack_ms: float, release_ms: float
) -> list[float]:
    """Compress one waveform, a knee of 6 dB, as Giannoulis et al. draw it."""
    attack, release = (math.exp(-1000 / (ms * RATE)) for ms in (attack_ms, release_ms))
    peak = smooth = 0.0
    made = []
    for sample in x:
        level = 20 * math.log10(max(abs(sample), 1e-6))
        if level < threshold - 3:
            out = level
        elif level <= threshold + 3:
            out = level + (1 / ratio - 1) * (level - threshold + 3) ** 2 / 12
        else:
            out = threshold + (level - threshold) / ratio
        wanted = level - out
        peak = max(wanted, release * peak + (1 - release) * wanted)
        smooth = attack * smooth + (1 - attack) * peak
        made.append(sample * 10 ** (-smooth / 20))
    return made


@given(
    threshold=st.floats(-60, 0),
    ratio=st.floats(1, 50),
    attack_ms=st.floats(0.1, 100),
    release_ms=st.floats(1, 1000),
    seed=st.integers(0, 99),
)
def test_compression_equals_its_steps(
    threshold: float, ratio: float, attack_ms: float, release_ms: float, seed: int
) -> None:
    g = np.random.default_rng(seed)
    x = g.standard_normal(700) * np.exp(g.uniform(-7, 1, 7)).repeat(100)
    numbers = (threshold, ratio, attack_ms, release_ms)
    expected = compress_slowly(x.tolist(), *numbers)
    wave = torch.from_numpy(x).float()[None]
    made = compress(wave, *(torch.tensor([v]) for v in numbers), RATE)[0]
    np.testing.assert_allclose(made, expected, rtol=3e-4, atol=3e-6)


def test_every_sample_is_compressed_by_its_own_numbers() -> None:
    x = torch.randn(3, 900)
    table = torch.tensor([[-30, 4.0, 1, 50], [-10, 2, 20, 300], [-50, 20, 5, 10]])
    together = compress(x, *table.T, RATE)
    for row, wave, numbers in zip(together, x, table, strict=True):
        torch.testing.assert_close(row, compress(wave[None], *numbers[:, None], RATE)[0])


def test_a_steady_tone_comes_out_at_the_ratio() -> None:
    # Full scale held for long, 20 dB above the threshold, at 4:1: 15 dB less.
    made = compress(torch.ones(1, RATE), *torch.tensor([[-20.0], [4], [5], [50]]), RATE)
    assert float(made[0, -1].log10() * 20) == pytest.approx(-15, abs=0.01)


def test_what_stays_below_the_knee_is_not_touched() -> None:
    x = 0.05 * torch.rand(2, 500)  # under -26 dB
    assert torch.equal(compress(x, *torch.tensor([[-20.0], [4], [5], [50]]).expand(4, 2), RATE), x)

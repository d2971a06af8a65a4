"""Plain WAV by libsndfile: the bits that ffmpeg gives, or left to ffmpeg."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_barlow_twins.shards.decode import sound
from audio_barlow_twins.shards.decode.cut import DecodeLimits
from audio_barlow_twins.shards.decode.errors import BadAudio
from audio_barlow_twins.shards.decode.plain import SUBTYPES, read_plain
from audio_barlow_twins.shards.decode.sound import decode, decode_float

LIMITS = DecodeLimits()
Tone = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one folder for all examples of a property."""
    return tmp_path_factory.mktemp("plain")


def by_ffmpeg(path: Path, sample_rate: int, limits: DecodeLimits = LIMITS) -> np.ndarray:
    """Decode without libsndfile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sound, "read_plain", lambda *_: None)
        return decode_float(str(path), sample_rate, limits)


@settings(max_examples=80)
@given(
    subtype=st.sampled_from(sorted(SUBTYPES)),
    channels=st.sampled_from([1, 2]),
    rate=st.sampled_from([8000, 16000, 22050, 44100, 48000]),
    wanted=st.sampled_from([16000, 44100, 48000]),
    loudest=st.sampled_from([1e-3, 0.5, 1.5]),
    n_samples=st.integers(1, 100_000),
)
def test_both_ways_give_the_same_bits(
    scratch: Path, subtype: str, channels: int, rate: int, wanted: int, loudest: float,
    n_samples: int,
) -> None:  # fmt: skip
    wave = np.random.default_rng(n_samples).uniform(-loudest, loudest, (n_samples, channels))
    path = scratch / "a.wav"
    soundfile.write(path, wave, rate, subtype)
    assert read_plain(str(path), path.read_bytes()[:16]) is not None
    np.testing.assert_array_equal(decode_float(str(path), wanted, LIMITS), by_ffmpeg(path, wanted))


@pytest.mark.parametrize("ending", ["wav", "flac", "mp3", "m4a", "webm", "ogg"])
def test_a_model_gets_what_a_shard_stores(
    scratch: Path, tone: Tone, ffmpeg: Callable[..., None], ending: str
) -> None:
    channels = np.stack([3 * tone(2, 44100), tone(2, 44100, 1000)], 1)  # too loud on the left
    soundfile.write(scratch / "source.wav", channels, 44100, "FLOAT")
    ffmpeg("-i", scratch / "source.wav", scratch / f"made.{ending}")
    path = str(scratch / f"made.{ending}")
    stored = decode(path, LIMITS)
    np.testing.assert_array_equal(np.rint(decode_float(path, 16000, LIMITS) * 32768), stored)


def as_wav(wave: np.ndarray) -> bytes:
    """Write a WAV at 16 kHz."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, 16000, format="WAV")
    return buffer.getvalue()


@pytest.mark.parametrize("damage", ["cut", "size 0", "size -1", "tail", "junk"])
def test_a_wav_that_is_not_plain_is_left_to_ffmpeg(scratch: Path, tone: Tone, damage: str) -> None:
    whole = as_wav(tone(1.0))
    content = {
        "cut": whole[:10_044],
        "size 0": whole[:4] + bytes(4) + whole[8:40] + bytes(4) + whole[44:],
        "size -1": whole[:4] + b"\xff" * 4 + whole[8:40] + b"\xff" * 4 + whole[44:],
        "tail": whole + b"TAG",
        "junk": whole[:8] + b"WAVE" + bytes(100),
    }[damage]
    path = scratch / "odd.wav"
    path.write_bytes(content)
    assert read_plain(str(path), content[:16]) is None
    if damage == "junk":
        with pytest.raises(BadAudio, match="ffmpeg cannot decode it"):
            decode_float(str(path), 16000, LIMITS)
    else:
        expected = tone(1.0)[: 5000 if damage == "cut" else 16000]
        made = decode_float(str(path), 16000, LIMITS)
        assert len(made) == len(expected)
        np.testing.assert_allclose(made, expected, atol=1e-4)


@pytest.mark.parametrize("damage", ["nan", "long"])
def test_a_bad_plain_file_is_refused_for_ffmpegs_reason(
    scratch: Path, tone: Tone, damage: str
) -> None:
    path = scratch / "bad.wav"
    wave = tone(1.0)
    if damage == "nan":
        wave[100] = np.nan
    soundfile.write(path, wave, 16000, "FLOAT")
    limits = DecodeLimits(max_s=0.5 if damage == "long" else 10)
    reasons = set()
    for read in (by_ffmpeg, lambda *args: decode_float(str(args[0]), *args[1:])):
        with pytest.raises(BadAudio) as caught:
            read(path, 16000, limits)
        reasons.add(str(caught.value))
    assert len(reasons) == 1


def test_joined_flacs_are_read_by_ffmpeg_to_their_end(scratch: Path, tone: Tone) -> None:
    soundfile.write(scratch / "one.flac", tone(1.0), 16000)
    (scratch / "two.flac").write_bytes((scratch / "one.flac").read_bytes() * 2)
    path = str(scratch / "two.flac")
    try:
        stored = decode(path, LIMITS)
    except BadAudio as error:
        with pytest.raises(BadAudio, match=re.escape(str(error))):
            decode_float(path, 16000, LIMITS)
    else:
        assert len(decode_float(path, 16000, LIMITS)) == len(stored)


def test_a_mix_of_many_channels_is_left_to_ffmpeg(scratch: Path, tone: Tone) -> None:
    soundfile.write(scratch / "six.wav", np.stack([tone(1.0)] * 6, 1), 16000)
    head = (scratch / "six.wav").read_bytes()[:16]
    assert read_plain(str(scratch / "six.wav"), head) is None

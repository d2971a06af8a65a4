"""Decoding with the real ffmpeg: exact lengths, right content, any name."""

import io
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly

from audio_barlow_twins.shards.decode.cut import Cut, DecodeLimits
from audio_barlow_twins.shards.decode.errors import BadAudio
from audio_barlow_twins.shards.decode.ffmpeg import decoder_version
from audio_barlow_twins.shards.decode.sound import decode, duration_of
from audio_barlow_twins.shards.decode.track import SAMPLE_RATE

RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000)
LIMITS = DecodeLimits()
Tone = Callable[..., np.ndarray]
Ffmpeg = Callable[..., None]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one folder for all examples of a property."""
    return tmp_path_factory.mktemp("decode")


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Correlate two signals without a shift: 1 for the same shape at the same place."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


@settings(max_examples=40)
@given(
    data=st.data(),
    rate=st.sampled_from(RATES),
    channels=st.sampled_from([1, 2, 6]),
    kind=st.sampled_from([("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "PCM_24"), ("FLAC", None)]),
)
def test_a_file_has_exactly_its_duration_in_samples(
    scratch: Path, data: st.DataObject, rate: int, channels: int, kind: tuple[str, str | None]
) -> None:
    n_samples = data.draw(st.integers(-(-513 * rate // SAMPLE_RATE), 2 * rate))
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (n_samples, channels))
    path = scratch / f"a.{kind[0].lower()}"
    soundfile.write(path, wave, rate, format=kind[0], subtype=kind[1])
    pcm = decode(str(path), LIMITS)
    assert pcm.dtype == np.int16
    assert len(pcm) == round(Fraction(n_samples * SAMPLE_RATE, rate))


def test_16_khz_pcm_comes_back_bit_for_bit(scratch: Path) -> None:
    pcm = np.random.default_rng(0).integers(-(2**15), 2**15, 20_000).astype(np.int16)
    soundfile.write(scratch / "same.wav", pcm, 16000)
    np.testing.assert_array_equal(decode(str(scratch / "same.wav"), LIMITS), pcm)


@pytest.mark.parametrize("rate", RATES)
def test_a_sine_keeps_its_place_amplitude_and_frequency(scratch: Path, rate: int) -> None:
    t = np.arange(rate) / rate
    soundfile.write(scratch / "sine.wav", 0.5 * np.sin(2 * np.pi * 1000 * t), rate, "FLOAT")
    wanted = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    inside = slice(400, -400)  # away from the edges, where a resampler has only half the signal
    made = decode(str(scratch / "sine.wav"), LIMITS) / 32768
    np.testing.assert_allclose(made[inside], wanted[inside], atol=1e-3)


@pytest.mark.parametrize(("rate", "up", "down"), [(48000, 1, 3), (8000, 2, 1), (22050, 320, 441)])
def test_noise_agrees_with_another_resampler(scratch: Path, rate: int, up: int, down: int) -> None:
    noise = np.random.default_rng(0).standard_normal(2 * rate)
    low = 0.1 * np.convolve(noise, np.ones(16) / 4, "same")  # little above 4 kHz
    soundfile.write(scratch / "noise.wav", low, rate, "FLOAT")
    wanted = resample_poly(low, up, down)
    made = decode(str(scratch / "noise.wav"), LIMITS) / 32768
    assert correlation(made[400:-400], wanted[400 : len(made) - 400]) > 0.999


@pytest.mark.parametrize("rate", [*RATES, 1000, 44_099, 384_000])
def test_block_by_block_gives_what_the_resampler_makes_of_it_all(scratch: Path, rate: int) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * rate).astype(np.float32)
    soundfile.write(scratch / "long.wav", noise, rate, "FLOAT")
    wanted = np.rint(soxr.resample(noise, rate, SAMPLE_RATE, quality="HQ") * 32768)
    made = decode(str(scratch / "long.wav"), LIMITS)
    assert len(made) == 48000
    np.testing.assert_allclose(made, wanted[:48000], rtol=0, atol=1)


def test_nothing_above_8_khz_is_folded_into_the_band(scratch: Path, tone: Tone) -> None:
    t = np.arange(48000) / 48000
    soundfile.write(scratch / "high.wav", 0.5 * np.sin(2 * np.pi * 11_000 * t), 48000, "FLOAT")
    low = tone(1.0, 48000, 440)
    soundfile.write(
        scratch / "both.wav", low + 0.4 * np.sin(2 * np.pi * 11_000 * t), 48000, "FLOAT"
    )
    soundfile.write(scratch / "low.wav", low, 48000, "FLOAT")
    both, alone = (decode(str(scratch / f"{name}.wav"), LIMITS) for name in ("both", "low"))
    assert np.abs(both[400:-400].astype(int) - alone[400:-400]).max() < 20


def test_stereo_becomes_the_mean_of_its_channels(scratch: Path, tone: Tone) -> None:
    left, right = tone(1.0, hz=440), 0.3 * tone(1.0, hz=1500)
    soundfile.write(scratch / "stereo.wav", np.stack([left, right], 1), 16000, "FLOAT")
    made = decode(str(scratch / "stereo.wav"), LIMITS) / 32768
    np.testing.assert_allclose(made, (left + right) / 2, atol=2e-4)


@pytest.mark.parametrize("ending", ["wav", "flac", "opus", "ogg", "m4a"])
@pytest.mark.parametrize("channels", [2, 6])
def test_equal_channels_mix_to_one_of_them_not_louder(
    scratch: Path, tone: Tone, ffmpeg: Ffmpeg, ending: str, channels: int
) -> None:
    one = 1.7 * tone(1.0, 48000)  # a peak near full scale
    source, path = scratch / "equal.wav", scratch / f"equal.{ending}"
    soundfile.write(source, np.stack([one] * channels, 1), 48000)
    if path != source:
        layout = {2: "stereo", 6: "5.1"}[channels]
        ffmpeg("-i", source, "-b:a", "384k", "-channel_layout", layout, path)
    made = decode(str(path), LIMITS)[1000:-1000] / 32768
    expected = np.sqrt(np.mean(one.astype(np.float64) ** 2))
    assert np.sqrt(np.mean(made**2)) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("channels", [*range(1, 13), 16, 24, 30, 64])
@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_any_number_of_equal_channels_mixes_to_one_of_them(
    scratch: Path, tone: Tone, channels: int, kind: str
) -> None:
    one = tone(0.2)
    path = str(scratch / "many.wav")
    soundfile.write(path, np.stack([one] * channels, 1), 16000, "PCM_16", format=kind)
    np.testing.assert_allclose(decode(path, LIMITS) / 32768, one, atol=1e-4)


def test_channels_that_have_no_place_are_averaged(scratch: Path) -> None:
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (4000, 30))
    soundfile.write(scratch / "thirty.wav", wave, 16000, "FLOAT")
    made = decode(str(scratch / "thirty.wav"), LIMITS) / 32768
    np.testing.assert_allclose(made, wave.mean(axis=1), atol=1e-4)


def test_channels_that_cancel_are_not_called_silent_alone(scratch: Path, tone: Tone) -> None:
    one, zero = tone(0.5), np.zeros(8000, np.float32)
    for name, channels in {
        "antiphase": (one, -one),
        "lfe": (zero, zero, zero, one, zero, zero),
    }.items():
        path = scratch / f"{name}.wav"
        soundfile.write(path, np.stack(channels, 1), 16000, "PCM_16", format="WAVEX")
        with pytest.raises(BadAudio, match=r"silent once it is mixed to mono.*peaks at 0\.5"):
            decode(str(path), LIMITS)


def test_samples_above_full_scale_are_clipped_not_wrapped(scratch: Path, tone: Tone) -> None:
    loud = 4 * tone(1.0)
    soundfile.write(scratch / "loud.wav", loud, 16000, "FLOAT")
    made = decode(str(scratch / "loud.wav"), LIMITS).astype(float)
    np.testing.assert_allclose(made, np.clip(loud * 32768, -32768, 32767), atol=1)


@pytest.mark.parametrize(
    ("ending", "arguments"),
    [
        ("mp3", ("-c:a", "libmp3lame", "-b:a", "192k")),
        ("opus", ("-c:a", "libopus", "-b:a", "128k")),
        ("webm", ("-c:a", "libopus", "-b:a", "128k")),
        ("ogg", ("-c:a", "libvorbis", "-q:a", "6")),
        ("m4a", ("-c:a", "aac", "-b:a", "192k")),
        ("aiff", ()),
        ("wv", ()),
    ],
)
def test_compressed_files_have_the_content_at_its_place(
    scratch: Path, tone: Tone, ffmpeg: Ffmpeg, ending: str, arguments: tuple[str, ...]
) -> None:
    source, path = scratch / "source.wav", scratch / f"made.{ending}"
    wave = tone(3.0, 44100, 440) * np.linspace(0.2, 1, 3 * 44100, dtype=np.float32)
    soundfile.write(source, wave, 44100)
    ffmpeg("-i", source, *arguments, path)
    made = decode(str(path), LIMITS)
    assert len(made) == 48000
    assert correlation(made, decode(str(source), LIMITS)) > 0.99


@pytest.mark.parametrize("ending", ["g722", "gsm"])
def test_bare_packets_of_telephones_are_known_by_their_ending(
    scratch: Path, tone: Tone, ffmpeg: Ffmpeg, ending: str
) -> None:
    wave = tone(2.0) * np.hanning(32_000)
    path = scratch / f"call.{ending}"
    if ending == "g722":
        soundfile.write(scratch / "call.wav", wave, 16000)
        ffmpeg("-i", scratch / "call.wav", path)
    else:
        low = soxr.resample(wave, 16000, 8000)
        soundfile.write(path, low, 8000, format="RAW", subtype="GSM610")
    whole, part = (decode(str(path), LIMITS, cut) for cut in (None, Cut(0.7, 1.3)))
    assert len(whole) == pytest.approx(32_000, abs=320)
    delays = range(40)  # samples; G.722 splits the band by filters
    assert max(correlation(whole[d:31_000], wave[: 31_000 - d]) for d in delays) > 0.99
    np.testing.assert_allclose(part, whole[11_200:20_800].astype(int), atol=1)
    length = duration_of(str(path), LIMITS, 1.0)
    assert length.seconds == pytest.approx(len(whole) / 16_000, abs=1e-6)


def test_the_sound_of_a_video_is_taken(scratch: Path, tone: Tone, ffmpeg: Ffmpeg) -> None:
    soundfile.write(scratch / "track.wav", tone(1.0), 16000)
    video = ("-f", "lavfi", "-i", "testsrc=duration=1:size=64x64")
    ffmpeg(*video, "-i", scratch / "track.wav", "-c:a", "flac", scratch / "film.mkv")
    wanted = decode(str(scratch / "track.wav"), LIMITS)
    np.testing.assert_array_equal(decode(str(scratch / "film.mkv"), LIMITS), wanted)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_wav_that_does_not_know_its_length_is_read_to_its_end(
    scratch: Path, tone: Tone, size: int
) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(1.0), 16000, format="WAV")
    content = bytearray(buffer.getvalue())
    begin = content.index(b"data") + 4
    content[4:8] = content[begin : begin + 4] = size.to_bytes(4, "little")
    (scratch / "pipe.wav").write_bytes(content)
    assert len(decode(str(scratch / "pipe.wav"), LIMITS)) == 16000


@pytest.mark.parametrize(
    "name",
    [
        b"-dash.wav",
        b"--version.wav",
        b"a:b.wav",
        b"http:x.wav",
        b"pipe:0.wav",
        b"concat:a|b.wav",
        b"%03d.wav",
        b" two  spaces .wav",
        "Grüße 漢 🎵.wav".encode(),
        b"two\nlines.wav",
        b"quo'te\".wav",
        b"back\\slash.wav",
        b"[a-z]*?.wav",
        b"$(HOME) `ls`.wav",
        b"FILE",
        b"caf\xe9.wav",
    ],
)
def test_any_file_name_can_be_decoded(scratch: Path, tone: Tone, name: bytes) -> None:
    soundfile.write(scratch / "plain.wav", tone(0.1), 16000)
    path = os.fsencode(scratch) + b"/" + name
    os.replace(scratch / "plain.wav", path)
    assert len(decode(os.fsdecode(path), LIMITS)) == 1600


def test_a_relative_name_that_begins_with_a_dash_can_be_decoded(
    scratch: Path, tone: Tone, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(scratch / "-i", tone(0.1), 16000, format="WAV")
    monkeypatch.chdir(scratch)
    assert len(decode("-i", LIMITS)) == 1600


def test_the_version_names_both_tools_in_one_line() -> None:
    first, second = decoder_version().split(", ")
    assert first.startswith("ffmpeg ")
    assert second.startswith("soxr ")

"""One clip as the bytes of its file: ordinary WAV and NPY, frames last."""

import io
import json

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from making import noise, small_form

from audio_barlow_twins.shards.stored.form import Form, logmel_form, wave_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd

kinds = st.sampled_from(["wave", "logmel"])


@given(length=st.integers(0, 500), seed=st.integers(0, 99))
def test_a_wave_opens_in_libsndfile_with_exact_samples(length: int, seed: int) -> None:
    array = noise(wave_form(), length, seed)
    file = soundfile.SoundFile(io.BytesIO(wave_form().encode(array)))
    assert (file.samplerate, file.channels, file.subtype) == (16000, 1, "PCM_16")
    np.testing.assert_array_equal(file.read(dtype="int16"), array)


@given(length=st.integers(0, 500), seed=st.integers(0, 99))
def test_a_log_mel_opens_in_numpy_with_exact_values(length: int, seed: int) -> None:
    form = logmel_form(FrontEnd())
    array = noise(form, length, seed)
    loaded = np.load(io.BytesIO(form.encode(array)))
    assert (loaded.dtype, loaded.shape) == (np.float16, (length, 64))
    np.testing.assert_array_equal(loaded, array)


@given(kind=kinds, length=st.integers(0, 500), seed=st.integers(0, 99))
def test_the_frames_are_the_last_bytes_of_the_file(kind: str, length: int, seed: int) -> None:
    form = small_form(kind)
    array = noise(form, length, seed)
    data = form.encode(array)
    assert data[len(data) - length * form.frame_bytes :] == array.tobytes()


def test_an_array_in_fortran_order_is_stored_frame_by_frame() -> None:
    form = small_form("logmel")
    array = noise(form, 7, seed=0)
    assert form.encode(np.asfortranarray(array)) == form.encode(array)


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("wave", np.zeros(9, np.float32)),
        ("wave", np.zeros((9, 2), np.int16)),
        ("wave", np.zeros(9, ">i2")),
        ("logmel", np.zeros((9, 4), np.float32)),
        ("logmel", np.zeros((4, 9), np.float16)),
        ("logmel", np.zeros(4, np.float16)),
    ],
)
def test_an_array_of_another_type_or_shape_is_refused(kind: str, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=f"a {kind} clip is .*, got {array.dtype}"):
        small_form(kind).encode(array)


@pytest.mark.parametrize("kind", ["wave", "logmel"])
def test_a_form_survives_json(kind: str) -> None:
    form = small_form(kind)
    assert Form(form.kind, json.loads(json.dumps(form.parameters))).digest == form.digest


def test_a_second_is_16000_samples_or_100_frames() -> None:
    assert wave_form().frames_per_s == 16000
    assert logmel_form(FrontEnd()).frames_per_s == 100

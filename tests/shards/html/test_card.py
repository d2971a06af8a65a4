"""Sounds inside a page."""

import base64
import io

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from audio_barlow_twins.shards.html.card import Card, card_of, sound_page
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.logmel import LogMel


@given(hnp.arrays(np.int16, st.integers(1, 50)), st.sampled_from([8000, 16000, 44100]))
def test_a_card_plays_exactly_the_samples(samples: np.ndarray, sample_rate: int) -> None:
    wav = Card(title="a", lines=["b"], samples=samples, sample_rate=sample_rate).wav
    data = base64.b64decode(wav.removeprefix("data:audio/wav;base64,"))
    read, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    assert rate == sample_rate
    np.testing.assert_array_equal(read, samples)


@pytest.mark.parametrize("samples", [np.zeros(4, np.float32), np.zeros((4, 2), np.int16)])
def test_samples_of_another_type_or_shape_are_refused(samples: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a wave clip is"):
        _ = Card(title="a", lines=["b"], samples=samples).wav


def test_a_waveform_is_clipped_and_a_short_one_is_drawn_padded() -> None:
    front_end = FrontEnd()
    card = card_of("a", "b", np.array([0.5, 1.5, -2], np.float32), LogMel(front_end))
    assert card.samples is not None
    assert card.samples.tolist() == [16384, 32767, -32768]
    assert card.log_mel is not None
    assert card.log_mel.shape == (front_end.least_samples // front_end.hop + 1, front_end.n_mels)


def test_what_is_missing_is_said_and_what_is_there_is_shown() -> None:
    card = Card(title="gone", lines=["far away"], notes=["no such file"])
    page = sound_page("Sounds", "some", [("Near", "", [card])])
    assert "<audio" not in page
    assert "<img" not in page
    assert '<p class="quiet">no such file</p>' in page


def test_links_lead_from_the_introduction_to_the_groups() -> None:
    groups = [("one", "first", []), ("two", "second", [])]
    assert 'href="#two"' in sound_page("a", "b", groups, "Listen.")
    assert '<section id="two">' in sound_page("a", "b", groups, "Listen.")
    assert 'href="#' not in sound_page("a", "b", groups)

"""The tasks of the reference encoder: scenes with known labels, notes at their pitch."""

import struct
from pathlib import Path

import numpy as np
import pytest
from gravis import Sample, play, read_patch
from scenes import RATE, as_pcm, audible, events, level, noise, tags, voices

from audio_barlow_twins.eval.tasks.task import read_task
from audio_barlow_twins.ingest.task import About, write_task

SPLITS = {"train": 3, "valid": 2, "test": 4}


def sine(hz: float, seconds: float) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)


@pytest.fixture
def sounds() -> dict[str, dict[str, list[np.ndarray]]]:
    """Return a low and a high tone for each split."""
    return {split: {"low": [sine(300, 0.5)], "high": [sine(3000, 0.4)]} for split in SPLITS}


def band(wave: np.ndarray, low_hz: float, high_hz: float) -> float:
    """Return the share of a wave's power between two frequencies."""
    power = np.abs(np.fft.rfft(wave)) ** 2
    hz = np.fft.rfftfreq(len(wave), 1 / RATE)
    return float(power[(hz > low_hz) & (hz < high_hz)].sum() / power.sum())


def test_events_sound_from_their_onset_to_their_end(
    sounds: dict[str, dict[str, list[np.ndarray]]],
) -> None:
    scenes = list(events(sounds, SPLITS, seconds=5.0, a_scene=1))
    assert len(scenes) == sum(SPLITS.values())
    for scene in scenes:
        (event,) = scene.labels
        begin, end = (round(event[at] * RATE / 1000) for at in ("start", "end"))
        wave = scene.samples.astype(float)
        limits = (250, 350) if event["label"] == "low" else (2900, 3100)
        assert band(wave[begin:end], *limits) > 0.9
        rest = np.concatenate([wave[:begin], wave[end:]])
        assert band(rest, *limits) < 0.5
        assert len(wave) == 5 * RATE


def test_tags_are_those_of_the_sounds_that_are_mixed(
    sounds: dict[str, dict[str, list[np.ndarray]]],
) -> None:
    for clip in tags(sounds, SPLITS, seconds=2.0):
        wave = clip.samples.astype(float)
        heard = {
            name
            for name, limits in (("low", (290, 310)), ("high", (2990, 3010)))
            if band(wave, *limits) > 0.02
        }
        assert heard == set(clip.labels)


def test_voices_are_as_many_as_the_label_says() -> None:
    speakers = {str(n): [sine(400 + 700 * n, 0.3), sine(400 + 700 * n, 0.6)] for n in range(5)}
    clips = list(voices(dict.fromkeys(SPLITS, speakers), {"test": 12}, seconds=3.0, most=4))
    assert [clip.labels for clip in clips[:5]] == [["0"], ["1"], ["2"], ["3"], ["4"]]
    for clip in clips:
        wave = clip.samples.astype(float)
        heard = sum(band(wave, 390 + 700 * n, 410 + 700 * n) > 0.02 for n in range(5))
        assert [str(heard)] == clip.labels


def test_scenes_are_the_same_every_time(
    sounds: dict[str, dict[str, list[np.ndarray]]],
) -> None:
    once, again = (list(tags(sounds, SPLITS, 1.0)) for _ in range(2))
    for one, other in zip(once, again, strict=True):
        assert (one.name, one.labels) == (other.name, other.labels)
        np.testing.assert_array_equal(one.samples, other.samples)


def test_mixed_scenes_are_tasks_that_an_evaluation_reads(
    tmp_path: Path, sounds: dict[str, dict[str, list[np.ndarray]]]
) -> None:
    about = About(
        evaluation=("event_onset_200ms_fms",),
        embedding_type="event",
        prediction_type="multilabel",
        seconds=2.0,
    )
    folder = tmp_path / "events-v1-full"
    clips = events(sounds, SPLITS, seconds=2.0, a_scene=2)
    write_task(folder, about.metadata(folder.name, SPLITS, "x"), clips)
    task = read_task(folder, RATE)
    assert {split: len(clips) for split, clips in task.splits.items()} == SPLITS
    assert task.labels == ("high", "low")
    assert all(len(clip.events) == 2 for clips in task.splits.values() for clip in clips)
    assert task.metadata.is_event


def test_a_level_is_that_of_the_loudest_tenth_of_a_second() -> None:
    wave = level(np.concatenate([np.zeros(RATE), sine(500, 0.1), 0.1 * sine(500, 1.0)]), -20)
    assert np.sqrt(np.square(wave[RATE : RATE + RATE // 10]).mean()) == pytest.approx(0.1, rel=1e-3)


def test_audible_is_what_lies_within_40_db_of_the_peak() -> None:
    wave = np.concatenate([np.full(5, 0.004), [1.0], np.full(5, 0.02), np.full(9, 0.009)])
    assert len(audible(wave)) == 6


def test_noise_is_pink() -> None:
    wave = noise(np.random.default_rng(0), 10 * RATE, -40)
    assert 20 * np.log10(wave.std()) == pytest.approx(-40)
    octaves = [band(wave, hz, 2 * hz) for hz in (250, 500, 1000, 2000)]
    assert max(octaves) / min(octaves) == pytest.approx(1, abs=0.1)


def test_samples_that_would_clip_are_scaled() -> None:
    assert np.abs(as_pcm(np.array([2.0, -1.0]))).max() == round(0.7 * 32767)
    assert as_pcm(np.array([0.5]))[0] == round(0.5 * 32767)


def patch(tmp_path: Path, mode: int, data: bytes, rate: int = 16_000, root_hz: float = 440) -> Path:
    """Write a Gravis patch of one sample, looped in its second half."""
    head = bytearray(129 + 63 + 47)
    head[:11] = b"GF1PATCH110"
    head[129 + 63 + 6] = 1
    sample = bytearray(96)
    struct.pack_into(
        "<IIIHIII", sample, 8, len(data), len(data) // 2, len(data), rate, 0, 0, int(root_hz * 1000)
    )
    sample[55] = mode
    path = tmp_path / "a.pat"
    path.write_bytes(bytes(head) + bytes(sample) + data)
    return path


@pytest.mark.parametrize(
    ("mode", "kind", "offset", "scale"),
    [(1, "<i2", 0, 2**15), (3, "<u2", 2**15, 2**15), (0, "<i1", 0, 2**7), (2, "<u1", 2**7, 2**7)],
)
def test_samples_of_every_width_and_sign_are_read(
    tmp_path: Path, mode: int, kind: str, offset: int, scale: int
) -> None:
    wave = sine(440, 0.1)
    data = (np.round(wave * (scale - 1)) + offset).astype(kind).tobytes()
    (sample,) = read_patch(patch(tmp_path, mode | 4, data))
    np.testing.assert_allclose(sample.wave, wave, atol=1.01 / scale)
    assert (sample.rate, sample.root_hz, sample.loop) == (16_000, 440.0, (800, 1600))


@pytest.mark.parametrize("hz", [220.0, 440.0, 660.0, 1100.0])
@pytest.mark.parametrize("loop", [None, (0, 1600)])
def test_a_note_has_its_pitch_and_length(hz: float, loop: tuple[int, int] | None) -> None:
    sample = Sample(sine(400, 0.1 if loop else 4.0).astype(np.float32), 16_000, 400.0, loop)
    note = play(sample, hz, 1.0)
    assert len(note) == RATE
    peak = np.abs(np.fft.rfft(note[: RATE - 400] * np.hanning(RATE - 400))).argmax()
    assert peak * RATE / (RATE - 400) == pytest.approx(hz, abs=1.5)


def test_a_file_that_is_no_patch_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pat").write_bytes(b"RIFF" + bytes(500))
    with pytest.raises(ValueError, match="is no Gravis patch"):
        read_patch(tmp_path / "a.pat")

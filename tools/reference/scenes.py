"""Scenes mixed from single sounds, whose labels are known because they were mixed."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from audio_barlow_twins.ingest.task import LabelledClip

RATE = 16_000
PEAK = 0.7
Sounds = Mapping[str, Sequence[np.ndarray]]
"""Float waves in [-1, 1] at 16 kHz, by label."""
SPLITS = ("train", "valid", "test")


def as_pcm(wave: np.ndarray) -> np.ndarray:
    """Return a wave as int16, scaled if it would clip."""
    return np.round(wave * (32767 * min(1.0, PEAK / max(np.abs(wave).max(), 1e-9)))).astype("<i2")


def level(wave: np.ndarray, db: float) -> np.ndarray:
    """Return a wave whose loudest tenth of a second has an RMS of `db` relative to 1."""
    window = RATE // 10
    blocks = np.pad(wave, (0, -len(wave) % window)).reshape(-1, window)
    loudest = float(np.sqrt(np.square(blocks).mean(axis=1).max()))
    return wave * (10 ** (db / 20) / max(loudest, 1e-6))


def audible(wave: np.ndarray, db: float = -40.0) -> np.ndarray:
    """Return a wave from the first to the last sample within `db` of its peak."""
    loud = np.flatnonzero(np.abs(wave) > np.abs(wave).max() * 10 ** (db / 20))
    return wave[loud[0] : loud[-1] + 1]


def noise(rng: np.random.Generator, n: int, db: float) -> np.ndarray:
    """Return pink noise with an RMS of `db` relative to 1."""
    spectrum = np.fft.rfft(rng.standard_normal(n)) / np.sqrt(np.arange(1, n // 2 + 2))
    pink = np.fft.irfft(spectrum, n)
    return pink * (10 ** (db / 20) / pink.std())


def events(
    sounds: Mapping[str, Sounds], numbers: Mapping[str, int], seconds: float, a_scene: int
) -> Iterator[LabelledClip]:
    """Yield scenes of sounds that begin at known times, over pink noise.

    Args:
        sounds: of each split.
        numbers: scenes of each split.
        a_scene: sounds in each.
    """
    for split, n_scenes in numbers.items():
        rng = np.random.default_rng([16, SPLITS.index(split)])
        for number in range(n_scenes):
            n = round(seconds * RATE)
            scene, labels = noise(rng, n, -45.0), []
            for label in rng.permutation([*sounds[split]])[:a_scene]:
                wave = _any(rng, sounds[split][label])[: 2 * RATE]
                at = int(rng.integers(0, n - len(wave)))
                scene[at : at + len(wave)] += level(wave, rng.uniform(-30, -18))
                start_ms = 1000 * at / RATE
                end_ms = start_ms + 1000 * len(wave) / RATE
                labels.append({"label": str(label), "start": start_ms, "end": end_ms})
            yield LabelledClip(split, f"scene{number:03d}", as_pcm(scene), labels)


def tags(
    sounds: Mapping[str, Sounds], numbers: Mapping[str, int], seconds: float
) -> Iterator[LabelledClip]:
    """Yield clips in which one to three sounds play at once; see `events`."""
    for split, n_clips in numbers.items():
        rng = np.random.default_rng([17, SPLITS.index(split)])
        for number in range(n_clips):
            n = round(seconds * RATE)
            clip = noise(rng, n, -50.0)
            chosen = rng.permutation([*sounds[split]])[: rng.integers(1, 4)]
            for label in chosen:
                wave = _any(rng, sounds[split][label])[:n]
                at = int(rng.integers(0, n - len(wave) + 1))
                clip[at : at + len(wave)] += level(wave, rng.uniform(-26, -18))
            yield LabelledClip(split, f"clip{number:03d}", as_pcm(clip), sorted(map(str, chosen)))


def voices(
    words: Mapping[str, Sounds], numbers: Mapping[str, int], seconds: float, most: int
) -> Iterator[LabelledClip]:
    """Yield clips in which `0` to `most` people speak at once; the label is how many.

    Args:
        words: of each split, by speaker.
    """
    for split, n_clips in numbers.items():
        rng = np.random.default_rng([18, SPLITS.index(split)])
        for number in range(n_clips):
            n, count = round(seconds * RATE), number % (most + 1)
            clip = noise(rng, n, -55.0)
            for speaker in rng.permutation([*words[split]])[:count]:
                clip += level(_speech(rng, words[split][speaker], n), -22 + rng.uniform(-3, 3))
            yield LabelledClip(split, f"clip{number:03d}", as_pcm(clip), [str(count)])


def _any(rng: np.random.Generator, waves: Sequence[np.ndarray]) -> np.ndarray:
    return audible(waves[rng.integers(len(waves))])


def _speech(rng: np.random.Generator, words: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Return a speaker's words one after another, for `n` samples."""
    spoken = [np.zeros(int(rng.integers(0, RATE // 2)))]
    while sum(map(len, spoken)) < n:
        spoken += [_any(rng, words), np.zeros(int(rng.integers(0, RATE // 5)))]
    return np.concatenate(spoken)[:n]

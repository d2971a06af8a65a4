"""Make the tasks of the reference encoder: `python make_tasks.py SOUNDS CORPUS TASKS`.

SOUNDS is what `abt ingest debian tools/reference/task_packages.csv --piece-s 5 --out SOUNDS` made,
and CORPUS what `abt ingest debian --out CORPUS` did. Recordings of SOUNDS that are in CORPUS, too,
by their fingerprints, are left out. TASKS receives task folders in the layout of HEAR 2021.
"""

import csv
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from gravis import play, read_patch
from scenes import RATE, SPLITS, as_pcm, events, level, noise, tags, voices

from audio_barlow_twins.ingest.sources.debian.archive import AptGet
from audio_barlow_twins.ingest.sources.debian.unpack import find_unpacked, unpack
from audio_barlow_twins.ingest.stage.duplicates import Fingerprint, duplicates
from audio_barlow_twins.ingest.task import About, LabelledClip, stored_clips, write_task
from audio_barlow_twins.shards.base.cli import say
from audio_barlow_twins.shards.base.digest import digest
from audio_barlow_twins.shards.stored.form import wave_form
from audio_barlow_twins.shards.stored.shardset import open_shards
from audio_barlow_twins.shards.stored.sidecar import read_rows

HERE = Path(__file__).parent
SOURCES = [HERE / name for name in ("make_tasks.py", "scenes.py", "gravis.py", "effects.csv")]
"""What the tasks follow from, beside the sounds."""
SPOKEN = re.compile(r"kajongg/.*/voices/(de/)?((?:fe)?male[12])/(\w+)\.ogg")
SOUNDTRACKS = {
    "berusky": ["berusky2-data"],
    "redeclipse": ["redeclipse-data"],
    "warmux": ["warmux-data"],
    "openclonk": ["openclonk-data"],
    "nukem": ["davegnukem-data"],
    "freecol": ["freecol"],
    "aba": ["noiz2sa-data", "parsec47-data", "rrootage-data", "gunroar-data", "titanion-data",
            "torus-trooper-data", "mu-cade-data", "a7xpg-data", "tumiki-fighters-data"],
    "amoebax": ["amoebax-data"],
    "gigalomania": ["gigalomania-data"],
    "galious": ["mazeofgalious-data"],
    "seahorse": ["seahorse-adventures"],
    "pinball": ["pinball-data"],
}  # fmt: skip
"""Whose music it is, and its packages."""
MUSIC_S = 5.0
MOST_OF_A_TRACK, MOST_OF_A_CLASS = 8, 40
LEAST_NOTES = 4
"""Recorded notes that an instrument needs to be a class."""
PITCHES = range(36, 97)
"""MIDI numbers of the notes of the pitch task: C2 to C7."""
MULTICLASS = About()
MULTILABEL = About(evaluation=("mAP", "aucroc"), prediction_type="multilabel", seconds=4.0)
COUNT = About(seconds=4.0)
EVENTS = About(
    evaluation=("event_onset_200ms_fms", "segment_1s_er"),
    embedding_type="event",
    prediction_type="multilabel",
    seconds=10.0,
)


class Sounds:
    """The single sounds, as a wave set, and what is known of them."""

    def __init__(self, folder: Path, corpus: Path) -> None:
        self.wave = folder / "wave"
        shard_set = open_shards(self.wave, wave_form())
        self.fingerprint = shard_set.fingerprint
        known = heard_before(folder, corpus)
        self.origins = dict.fromkeys(
            row.origin
            for name in shard_set.names
            for row in read_rows(self.wave / f"{name}.parquet")
            if row.status == "ok" and row.origin not in known
        )

    def clips(self, label_of: Callable[[str], tuple[str, str] | None]) -> Iterator[LabelledClip]:
        """Yield the clips to whose origin `label_of` gives a fold and a label."""
        chosen = {each: found for each in self.origins if (found := label_of(each))}
        for row, samples in stored_clips(self.wave, chosen):
            fold, label = chosen[row.origin]
            yield LabelledClip(fold, row.key, samples, [label])


def heard_before(folder: Path, corpus: Path) -> set[str]:
    """Return the origins of a set's recordings that sound like one of the corpus."""
    first, second = (pq.read_table(each / "fingerprints.parquet") for each in (corpus, folder))
    table = pa.concat_tables([first, second]).select(["origin", "cells", "n_frames"])
    rows = list(zip(*table.to_pydict().values(), strict=True))
    found = duplicates([Fingerprint(cells, n) if cells else None for _, cells, n in rows])
    pairs = zip(rows, found, strict=True)
    known = {
        row[0]
        for number, (row, earlier) in enumerate(pairs)
        if number >= len(first) and earlier is not None and earlier < len(first)
    }
    say(f"{len(known)} recordings are in the corpus, too, and are left out")
    return known


def word_of(origin: str) -> tuple[str, str] | None:
    """Return the speaker and the words, in English or German, for a tile or call of mahjongg."""
    found = SPOKEN.match(origin)
    return (found[2], f"{'de' if found[1] else 'en'} {found[3]}") if found else None


def number_of(origin: str) -> tuple[str, str] | None:
    """Return the speaker and the number of a tile that has one: `en 3` for "three bamboo"."""
    found = word_of(origin)
    return (found[0], found[1][:3] + found[1][-1]) if found and found[1][-1].isdigit() else None


def effects() -> dict[str, tuple[str, str]]:
    """Return fold and label of the effects by origin: kinds by their names, folds by package."""
    with (HERE / "effects.csv").open(newline="") as file:
        return {row["origin"]: (row["fold"], row["label"]) for row in csv.DictReader(file)}


def music(sounds: Sounds) -> Iterator[LabelledClip]:
    """Yield excerpts of soundtracks; the tracks of each go round the folds."""
    owner = {package: name for name, packages in SOUNDTRACKS.items() for package in packages}
    tracks = [each for each in sounds.origins if each.split("/")[0] in owner]
    pieces = stored_clips(sounds.wave, set(tracks))
    number, total = Counter[str](), Counter[str]()
    for origin, group in groupby(pieces, lambda each: each[0].origin):
        name = owner[origin.split("/")[0]]
        full = [(row, samples) for row, samples in group if len(samples) == MUSIC_S * RATE]
        if len(full) < 3:
            continue
        fold = f"fold{number[name] % 5:02d}"
        number[name] += 1
        for row, samples in full[1 :: max(1, len(full) // MOST_OF_A_TRACK)][:MOST_OF_A_TRACK]:
            if total[name] < MOST_OF_A_CLASS:
                total[name] += 1
                yield LabelledClip(fold, row.key, samples, [name])


def instruments(patches: Path) -> Iterator[LabelledClip]:
    """Yield notes of instruments; the recorded notes of each go round the folds."""
    for path in sorted(patches.glob("Tone_000/*.pat")):
        samples = [each for each in read_patch(path) if 60 < each.root_hz < 1500]
        if len(samples) < LEAST_NOTES:
            continue
        for n, sample in enumerate(sorted(samples, key=lambda each: each.root_hz)):
            for step in (-1, 1):
                note = play(sample, sample.root_hz * 2 ** (step / 12), 1.0)
                pcm = as_pcm(level(note, -20.0))
                yield LabelledClip(f"fold{n % 4:02d}", f"{path.stem}-{n}-{step}", pcm, [path.stem])


def pitches(patches: Path) -> Iterator[LabelledClip]:
    """Yield notes of many instruments, a little out of tune and in noise; instruments go round the
    folds."""
    rng = np.random.default_rng(19)
    for number, path in enumerate(sorted(patches.glob("Tone_000/*.pat"))):
        samples = [each for each in read_patch(path) if 30 < each.root_hz < 3000]
        for midi in PITCHES:
            hz = 440 * 2 ** ((midi - 69 + rng.uniform(-0.3, 0.3)) / 12)
            near = [each for each in samples if abs(np.log2(each.root_hz / hz)) < 1]
            if not near or rng.random() > 0.25:
                continue
            nearest = min(near, key=lambda each: abs(np.log2(each.root_hz / hz)))
            note = level(play(nearest, hz, 0.5), -20.0)
            note = note + noise(rng, len(note), rng.uniform(-45, -30))
            yield LabelledClip(
                f"fold{number % 5:02d}", f"{path.stem}-{midi}", as_pcm(note), [str(midi)]
            )


def by_split(clips: Iterator[LabelledClip], splits: dict[str, str]) -> dict[str, dict]:
    """Return the waves of clips by split and label; `splits` says which fold goes into which."""
    found: dict[str, dict] = {split: defaultdict(list) for split in SPLITS}
    for clip in clips:
        wave = clip.samples.astype(np.float64) / 2**15
        found[splits[clip.fold]][str(clip.labels[0])].append(wave)
    return found


def speakers(sounds: Sounds) -> dict[str, dict]:
    """Return the spoken words by split and speaker; no word of a split is in another."""
    words = sorted({found[1].split()[1] for each in sounds.origins if (found := word_of(each))})
    part = {word: SPLITS[(0, 0, 0, 2, 1, 0, 2)[i % 7]] for i, word in enumerate(words)}

    def speaker_of(origin: str) -> tuple[str, str] | None:
        found = word_of(origin)
        if not found:
            return None
        language, word = found[1].split()
        return part[word], f"{language} {found[0]}"

    return by_split(sounds.clips(speaker_of), dict(zip(SPLITS, SPLITS, strict=True)))


def instrument_patches(folder: Path) -> Path:
    """Return the folder of the patches in Debian's freepats; it is fetched if it is not there."""
    found = find_unpacked(folder).get("freepats")
    if found is None:
        with AptGet().get("freepats") as deb:
            found = unpack(deb, folder, {".pat"})
    return found.folder / "usr" / "share" / "midi" / "freepats"


def main(sounds_folder: Path, corpus: Path, tasks: Path) -> None:
    sounds = Sounds(sounds_folder, corpus)
    patches = instrument_patches(sounds_folder / "patches")
    code = digest("".join(map(Path.read_text, SOURCES)), 8)
    made_from = f"{len(sounds.origins)} recordings of {sounds.fingerprint} by {code}"
    known = effects()
    of_fold = {f"fold{n:02d}": SPLITS[(0, 0, 0, 1, 2)[n]] for n in range(5)}
    single = by_split(sounds.clips(known.get), of_fold)
    for name, about, folds, clips in (
        ("numbers-v1-full", MULTICLASS, ["female1", "female2", "male1", "male2"],
         sounds.clips(number_of)),
        ("effects-v1-full", MULTICLASS, of_fold, sounds.clips(known.get)),
        ("music-v1-full", About(seconds=MUSIC_S), of_fold, music(sounds)),
        ("instruments-v1-full", About(seconds=1.0), [*of_fold][:4], instruments(patches)),
        ("pitches-v1-full", About(evaluation=("pitch_acc", "chroma_acc"), seconds=0.5), of_fold,
         pitches(patches)),
        ("events-v1-full", EVENTS, SPLITS,
         events(single, {"train": 40, "valid": 14, "test": 26}, 10.0, 6)),
        ("tags-v1-full", MULTILABEL, SPLITS,
         tags(single, {"train": 300, "valid": 80, "test": 200}, 4.0)),
        ("voices-v1-full", COUNT, SPLITS,
         voices(speakers(sounds), {"train": 270, "valid": 90, "test": 180}, 4.0, 5)),
    ):  # fmt: skip
        write_task(tasks / name, about.metadata(name, folds, made_from), clips)
        say(f"{tasks / name}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))

"""What is wrong with a task folder: every problem, with file and reason.

heareval stops at the first one, or scores what is there. Here a folder is looked through to its
end: metadata, vocabulary, labels, and the clips at every rate that it holds.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import soundfile

from audio_barlow_twins.shards.base.ahead import ahead, all_threads

from ..sound.audio import AudioError, read_audio
from .metadata import TaskError, TaskMetadata, parse_metadata
from .resampled import rates_of
from .suite import differences
from .task import METADATA_FILE, VOCABULARY_FILE, read_json, read_labels, read_vocabulary

AHEAD = 1024
"""Clips that may be looked at before the one that is the next to be reported."""
DURATION_SLACK_S = 0.01
"""By how much a clip may miss the task's duration."""
ENDLESS = 0xFFFFFFFF
"""Size in a WAV header by who did not know it when writing."""

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Problem:
    """Something in a task folder that is not as it must be."""

    what: str
    """File, what was found and what was wanted, in a line."""
    harmless: bool = False
    """The task can be scored all the same."""


@dataclass(frozen=True)
class CheckedTask:
    """What was found in a task folder."""

    name: str
    rates: tuple[int, ...]
    """Hz."""
    n_clips: int
    """Clips that are listed."""
    hours: float
    """Sound at the first rate."""
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Problems because of which the task cannot be scored, or not comparably."""
        return tuple(problem for problem in self.problems if not problem.harmless)


@dataclass(frozen=True)
class _Heard:
    """What was found in a sound file."""

    duration_s: float
    problems: tuple[Problem, ...]


Listings = dict[str, list[str]]
"""Names of the clips of each split."""


def check_task(folder: Path, decode: bool, progress: Progress = lambda n: None) -> CheckedTask:
    """Look through a task folder.

    Args:
        folder: the task folder.
        decode: read every sound to its end, instead of its header.
        progress: told how many sound files have been looked at each time that some have.
    """
    problems, metadata = check_metadata(folder)
    rates = tuple(rates_of(folder))
    if not rates:
        problems.append(Problem(f"{folder}: holds no folder of clips, such as 48000"))
    if metadata is None:
        return CheckedTask(folder.name, rates, 0, 0.0, tuple(problems))
    listings, found = check_listings(folder, metadata)
    problems += found
    hours = []
    for rate in rates:
        files, found = check_files(folder / str(rate), listings)
        heard = list(hear(files, metadata, rate, decode, progress))
        problems += found + [problem for each in heard for problem in each.problems]
        hours.append(sum(each.duration_s for each in heard) / 3600)
    n_clips = sum(map(len, listings.values()))
    return CheckedTask(folder.name, rates, n_clips, next(iter(hours), 0.0), tuple(problems))


def check_metadata(folder: Path) -> tuple[list[Problem], TaskMetadata | None]:
    """Check metadata and vocabulary; without a vocabulary, the labels cannot be checked."""
    problems, labels = [], None
    try:
        labels = read_vocabulary(folder / VOCABULARY_FILE)
    except TaskError as error:
        problems.append(Problem(str(error)))
    where = folder / METADATA_FILE
    try:
        metadata = parse_metadata(read_json(where), folder.name, labels or (), str(where))
    except TaskError as error:
        return [*problems, Problem(str(error))], None
    if labels is None:
        return problems, None
    said = [f"{where}: not the paper's task: {difference}" for difference in differences(metadata)]
    return problems + [Problem(line) for line in said], metadata


def check_listings(folder: Path, metadata: TaskMetadata) -> tuple[Listings, list[Problem]]:
    """Check the labels of every clip."""
    listings: Listings = {}
    problems: list[Problem] = []
    for split in metadata.splits:
        listing = folder / f"{split}.json"
        try:
            clips = read_json(listing)
        except TaskError as error:
            problems.append(Problem(str(error)))
            continue
        if not clips:
            problems.append(Problem(f"{listing}: lists no clips"))
        for name, raw in clips.items():
            try:
                read_labels(Path(name), raw, metadata, listing)
            except TaskError as error:
                problems.append(Problem(str(error)))
        listings[split] = list(clips)
    return listings, problems


def check_files(folder: Path, listings: Listings) -> tuple[list[Path], list[Problem]]:
    """Compare the files of a rate with the listings; return those that are there and listed."""
    files: list[Path] = []
    problems: list[Problem] = []
    for split, names in listings.items():
        inside = folder / split
        if not inside.is_dir():
            problems.append(Problem(f"{inside}: no such folder; {len(names)} clips are missing"))
            continue
        present = {file.name for file in inside.iterdir()}
        problems += [
            Problem(f"{inside / name}: missing, though {split}.json lists it")
            for name in names
            if name not in present
        ]
        problems += [
            Problem(f"{inside / name}: not in {split}.json, so it is not used", harmless=True)
            for name in sorted(present - {*names})
        ]
        files += [inside / name for name in names if name in present]
    return files, problems


def hear(
    files: Iterable[Path], metadata: TaskMetadata, rate: int, decode: bool, progress: Progress
) -> Iterator[_Heard]:
    """Look at sound files in threads."""
    look = partial(check_sound, duration_s=metadata.sample_duration_s, rate=rate, decode=decode)
    for _, heard in ahead(look, files, all_threads(), AHEAD):
        yield heard.result()
        progress(1)


def check_sound(file: Path, duration_s: float | None, rate: int, decode: bool) -> _Heard:
    """Check a sound file against what the task says of it."""
    try:
        about = soundfile.info(file)
        lost = bytes_lost(file)
    except (soundfile.SoundFileError, OSError) as error:
        reason = getattr(error, "error_string", None) or error
        return _Heard(0, (Problem(f"{file}: cannot be read as audio: {reason}"),))
    said = []
    if about.samplerate != rate:
        said.append(f"is at {about.samplerate} Hz, though its folder says {rate} Hz")
    if not about.frames:
        said.append("holds no samples")
    elif duration_s is not None and abs(about.duration - duration_s) > DURATION_SLACK_S:
        said.append(f"lasts {about.duration:.2f} s; the task says {duration_s:g} s")
    if lost:
        said.append(f"is cut off: by its header, {lost} bytes are missing")
    problems = [Problem(f"{file}: {what}") for what in said]
    if about.channels != 1:
        problems.append(
            Problem(f"{file}: has {about.channels} channels, which are averaged", harmless=True)
        )
    if decode and not problems:
        try:
            read_audio(file, rate)
        except AudioError as error:
            problems.append(Problem(str(error)))
    return _Heard(about.duration, tuple(problems))


def bytes_lost(file: Path) -> int:
    """Count what a WAV file lacks of what its header announces; libsndfile takes it for shorter."""
    with file.open("rb") as opened:
        head = opened.read(8)
    if len(head) < 8 or head[:4] != b"RIFF":
        return 0
    (announced,) = struct.unpack("<I", head[4:])
    return 0 if announced == ENDLESS else max(0, announced + 8 - file.stat().st_size)

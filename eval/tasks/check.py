"""All problems of a task folder, with file and reason.

heareval stops at the first problem, or scores the rest. Here everything is checked: metadata,
vocabulary, labels, and the clips at every rate in the folder.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import soundfile

from audio_barlow_twins.shards.base.ahead import ahead, all_threads

from ..sound.audio import AudioError, read_at_rate
from .metadata import TaskError, TaskMetadata, parse_metadata
from .resampled import rates_of
from .suite import differences
from .task import METADATA_FILE, VOCABULARY_FILE, read_json, read_labels, read_vocabulary

AHEAD = 1024
"""Sound files to check ahead of the next one to report."""
DURATION_SLACK_S = 0.01
"""Allowed difference between a clip's duration and the task's."""
UNKNOWN_SIZE = 0xFFFFFFFF
"""Size in the header of a WAV file that was written as a stream."""

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Problem:
    what: str
    """The file, what was found in it and what was wanted, in a line."""
    harmless: bool = False
    """Whether the task can be scored all the same."""


@dataclass(frozen=True)
class CheckedTask:
    name: str
    rates: tuple[int, ...]
    """Hz."""
    n_clips: int
    """Clips that the splits list."""
    hours: float
    """Sound in the folder of the first rate."""
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Return the problems that prevent scoring, or comparable scores."""
        return tuple(problem for problem in self.problems if not problem.harmless)


@dataclass(frozen=True)
class SoundCheck:
    duration_s: float
    problems: tuple[Problem, ...]


Listings = dict[str, list[str]]
"""Names of the clips of each split."""


def check_task(folder: Path, decode: bool, progress: Progress = lambda n: None) -> CheckedTask:
    """Check a task folder.

    Args:
        folder: the task folder.
        decode: decode every sound file, instead of reading only its header.
        progress: called with the number of sound files that have just been checked.
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
        checks = list(check_sounds(files, metadata, rate, decode, progress))
        problems += found + [problem for each in checks for problem in each.problems]
        hours.append(sum(each.duration_s for each in checks) / 3600)
    n_clips = sum(map(len, listings.values()))
    return CheckedTask(folder.name, rates, n_clips, next(iter(hours), 0.0), tuple(problems))


def check_metadata(folder: Path) -> tuple[list[Problem], TaskMetadata | None]:
    """Check metadata and vocabulary; return no metadata if labels cannot be checked with them."""
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
    """Compare the files of a rate with the listings; return the listed files that exist."""
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


def check_sounds(
    files: Iterable[Path], metadata: TaskMetadata, rate: int, decode: bool, progress: Progress
) -> Iterator[SoundCheck]:
    """Check sound files in threads; yield the results in order."""
    check = partial(check_sound, duration_s=metadata.sample_duration_s, rate=rate, decode=decode)
    for _, checked in ahead(check, files, all_threads(), AHEAD):
        yield checked.result()
        progress(1)


def check_sound(file: Path, duration_s: float | None, rate: int, decode: bool) -> SoundCheck:
    """Check a sound file against the task's duration (None: any) and rate."""
    try:
        about = soundfile.info(file)
        lost = bytes_lost(file)
    except (soundfile.SoundFileError, OSError) as error:
        reason = getattr(error, "error_string", None) or error
        return SoundCheck(0, (Problem(f"{file}: cannot be read as audio: {reason}"),))
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
            read_at_rate(file, rate)
        except AudioError as error:
            problems.append(Problem(str(error)))
    return SoundCheck(about.duration, tuple(problems))


def bytes_lost(file: Path) -> int:
    """Return how many bytes of a WAV file are missing; libsndfile reads it as a shorter one."""
    with file.open("rb") as opened:
        head = opened.read(8)
    if len(head) < 8 or head[:4] != b"RIFF":
        return 0
    (announced,) = struct.unpack("<I", head[4:])
    return 0 if announced == UNKNOWN_SIZE else max(0, announced + 8 - file.stat().st_size)

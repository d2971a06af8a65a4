"""`abt eval tasks`: list HEAR task folders, their problems, and how to get missing ones."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from audio_barlow_twins.shards.base.cli import say
from audio_barlow_twins.shards.base.errors import UserError

from .check import CheckedTask, check_task
from .metadata import TaskError
from .suite import PAPER_TASKS, how_to_get, paper_task
from .task import METADATA_FILE, VOCABULARY_FILE

HEAD = ("task", "folder", "clips", "hours", "rates", "state")


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """List and check HEAR task folders, and say how to get missing ones; exit code 1 if one is bad.

    Checks all metadata, vocabularies, labels and sound files.
    """

    tasks_dir: Path
    """Folder of HEAR task folders."""
    audio: bool = False
    """Decode every sound file, instead of reading only its header."""
    most: int = 10
    """How many problems of each task to print; further ones are counted."""

    def __post_init__(self) -> None:
        if self.most < 0:
            raise UserError(f"--most is {self.most}; give 0 or more problems to print")

    def run(self) -> None:
        folders = task_folders(self.tasks_dir)
        with tqdm(desc="checking", unit="clip", disable=None) as bar:
            checked = {
                folder.name: check_task(folder, self.audio, bar.update) for folder in folders
            }
        for line in task_table(checked):
            say(line)
        for task in checked.values():
            for line in problem_lines(task, self.most):
                say(line)
        missing = [task for task in PAPER_TASKS if task.folder not in checked]
        for line in how_to_get(missing, self.tasks_dir):
            say(line)
        sys.exit(1 if any(task.errors for task in checked.values()) else 0)


def task_folders(tasks_dir: Path) -> list[Path]:
    """List folders that are, or by their name should be, task folders; sorted by name."""
    if not tasks_dir.is_dir():
        raise TaskError(
            f"{tasks_dir}: no such folder; make it, and this command says how to fill it"
        )
    if (tasks_dir / METADATA_FILE).is_file():
        raise TaskError(f"{tasks_dir}: is itself a task folder; name the folder above it")
    return sorted(
        folder
        for folder in tasks_dir.iterdir()
        if folder.is_dir()
        and not folder.name.startswith(".")
        and (
            paper_task(folder.name)
            or any((folder / file).is_file() for file in (METADATA_FILE, VOCABULARY_FILE))
        )
    )


def task_table(checked: dict[str, CheckedTask]) -> list[str]:
    """Lay out the paper's tasks in its order, then the other tasks."""
    titles = {task.folder: task.title for task in PAPER_TASKS}
    names = [*titles, *(name for name in checked if name not in titles)]
    rows = [HEAD, *(cells(titles.get(name, ""), name, checked.get(name)) for name in names)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if title in ("clips", "hours") else cell.ljust(width)
            for cell, width, title in zip(row, widths, HEAD, strict=True)
        ).rstrip()
        for row in rows
    ]


def cells(title: str, folder: str, task: CheckedTask | None) -> tuple[str, ...]:
    if task is None:
        return title, folder, "-", "-", "-", "missing"
    rates = " ".join(map(str, task.rates)) or "-"
    return title, folder, str(task.n_clips), f"{task.hours:.2f}", rates, state_of(task)


def state_of(task: CheckedTask) -> str:
    """Return a task's numbers of problems and warnings, or "ok"."""
    warnings = len(task.problems) - len(task.errors)
    counts = [(len(task.errors), "problem"), (warnings, "warning")]
    said = [f"{n} {word}{'s' if n > 1 else ''}" for n, word in counts if n]
    return ", ".join(said) or "ok"


def problem_lines(task: CheckedTask, most: int) -> Iterator[str]:
    """Yield lines for at most `most` problems, errors before warnings, and one for the rest."""
    errors_first = sorted(task.problems, key=lambda problem: problem.harmless)
    for problem in errors_first[:most]:
        yield f"{'warning' if problem.harmless else 'problem'}: {problem.what}"
    if (rest := len(task.problems) - most) > 0:
        yield f"... and {rest} more in {task.name}; --most {len(task.problems)} shows all"

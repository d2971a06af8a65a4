"""Published scores on the paper's HEAR tasks, with their sources, to compare ours with."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audio_barlow_twins.shards.base.errors import UserError

from ..tasks.suite import PAPER_TASKS

SCORES = Path(__file__).with_name("published_scores.csv")
COLUMNS = ("model", "task", "score_name", "score", "source", "note")
PAPER, AUTHORS, LEADERBOARD = (
    "Anton et al. 2023, tables", "Anton et al. 2023, code", "HEAR leaderboard",
)  # fmt: skip
RANDOM_INIT = ", random init"
# The groups of the authors' results, who call the last one "other".
GROUPS: Mapping[str, tuple[str, ...]] = {
    "speech": ("CREMA-D", "LibriCount", "Speech Commands 5h", "Speech Commands full",
               "Vocal Imitations", "VoxLingua"),
    "environmental": ("ESC-50", "FSD50K", "Gunshot triangulation"),
    "music": ("Beijing Opera", "GTZAN genre", "GTZAN music/speech", "Mridangam stroke",
              "Mridangam tonic", "NSynth 5h", "NSynth 50h"),
    "events": ("DCASE 2016 task 2", "MAESTRO 5h"),
}  # fmt: skip
OWN = "not of the paper"


@dataclass(frozen=True, kw_only=True)
class Published:
    model: str
    source: str
    scores: Mapping[tuple[str, str], float]
    """By task folder and name of the score."""
    notes: Mapping[str, str]
    """Remarks on scores, by task folder."""

    @property
    def baseline(self) -> str:
        """Name of the same encoder without training, if that is published too."""
        encoder = self.model.removeprefix("ABT ").split(",")[0]
        return encoder + RANDOM_INIT if self.model.startswith("ABT ") else ""


def read_published(path: Path = SCORES) -> tuple[Published, ...]:
    """Return a CSV file's scores of each model and source; lines that begin with # are comments.

    Raises:
        UserError: the file cannot be read, lacks columns, or a score is not a number.
    """
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if line[:1] != "#"]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: published scores cannot be read: {error}") from error
    rows = list(csv.DictReader(lines))
    if not rows or tuple(rows[0]) != COLUMNS:
        raise UserError(f"{path}: holds no scores; wanted columns {', '.join(COLUMNS)}")
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault((row["model"], row["source"]), []).append(row)
    return tuple(
        Published(
            model=model,
            source=source,
            scores={(row["task"], row["score_name"]): _score(row, path) for row in some},
            notes={row["task"]: row["note"] for row in some if row["note"]},
        )
        for (model, source), some in found.items()
    )


def _score(row: Mapping[str, str], path: Path) -> float:
    try:
        return float(row["score"])
    except (TypeError, ValueError) as error:
        text = f"{path}: score of {row['model']} on {row['task']} is {row['score']!r}"
        raise UserError(f"{text}; wanted a number") from error


def main_anchors(published: Sequence[Published]) -> tuple[Published, ...]:
    """Return what a report shows by default: the paper's tables and their random baselines."""
    tables = [each for each in published if each.source == PAPER]
    baselines = {each.baseline for each in tables}
    return (*tables, *(each for each in published if each.model in baselines))


def group_of(task: str) -> str:
    titles = {known.folder: known.title for known in PAPER_TASKS}
    return next((group for group, some in GROUPS.items() if titles.get(task) in some), OWN)

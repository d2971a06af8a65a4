"""The demo corpus as a source: a labelled folder inside the project."""

import csv
from dataclasses import replace
from pathlib import Path

from ..clip import Clip
from ..folder import folder_clips

HERE = Path(__file__).parent
TASK = "demo_sounds-v1.0-full"
"""Name of the labelled task that the corpus carries."""


def demo_clips() -> list[Clip]:
    """List the corpus."""
    clips = folder_clips(HERE / "audio", HERE / "clips.csv")
    return [replace(clip, source="demo") for clip in clips]


def demo_folds() -> dict[str, str]:
    """Return the fold of every clip that belongs to the labelled task, by its origin."""
    with (HERE / "clips.csv").open(newline="", encoding="utf-8") as file:
        return {row["path"]: row["split"] for row in csv.DictReader(file) if row["split"]}

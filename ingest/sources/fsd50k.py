"""A source of clips: FSD50K as Zenodo's archives unpack it (Fonseca et al., 2022)."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from audio_barlow_twins.shards.base.cli import Positional
from audio_barlow_twins.shards.base.errors import UserError

from .clip import Clip
from .labels import words
from .source import Source

Split = Literal["dev", "train", "val", "eval"]
"""dev is train and val together, as FSD50K's authors and the paper's ablations use it."""

COLUMNS = {"fname", "labels", "mids"}


@dataclass(frozen=True, kw_only=True)
class Fsd50k(Source):
    """Ingest a split of FSD50K from the folder where its archives were unpacked."""

    name = "fsd50k"

    root: Positional[Path]
    """Holds FSD50K.dev_audio, FSD50K.eval_audio and FSD50K.ground_truth."""
    split: Split = "dev"
    """dev (train and val together: what the paper's ablations train on), train, val or eval."""

    def clips(self) -> list[Clip]:
        return fsd50k_clips(self.root, self.split)


def fsd50k_clips(root: Path, split: Split) -> list[Clip]:
    """List the clips of a split in the order of the ground-truth file.

    Every row is planned: a sound that is not in the folder becomes a failed clip with a reason.

    Raises:
        UserError: the folders are missing, or the ground truth is not FSD50K's.
    """
    if split not in get_args(Split):
        raise UserError(f"split is {split}; FSD50K has {', '.join(get_args(Split))}")
    part = "eval" if split == "eval" else "dev"
    audio = f"FSD50K.{part}_audio"
    table = root / "FSD50K.ground_truth" / f"{part}.csv"
    if not (root / audio).is_dir() or not table.is_file():
        raise UserError(
            f"{root} lacks {audio}/ or FSD50K.ground_truth/{part}.csv; unpack both archives of "
            "FSD50K into it"
        )
    rows = [row for row in _rows(table, part) if split in (part, row.get("split"))]
    if not rows:
        raise UserError(f"{table} has no row of the split {split}")
    return [
        Clip(
            key=row["fname"],
            source=f"fsd50k {split}",
            path=str((root / audio / f"{row['fname']}.wav").absolute()),
            origin=f"{audio}/{row['fname']}.wav",
            labels=words(row["labels"].split(",")),
        )
        for row in rows
    ]


def _rows(table: Path, part: str) -> list[dict[str, str]]:
    wanted = COLUMNS | ({"split"} if part == "dev" else set())
    try:
        with table.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if missing := wanted - set(reader.fieldnames or ()):
                raise UserError(f"{table} lacks the columns {', '.join(sorted(missing))}")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table} cannot be read as FSD50K's ground truth: {error}") from error
    for number, row in enumerate(rows, start=2):
        if not str(row["fname"]).isdecimal() or None in row.values():
            raise UserError(f"{table}, line {number}: a row begins with a number, a sound's name")
    return rows

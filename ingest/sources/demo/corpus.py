"""The demo corpus as a source: a labelled folder inside the project."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.place import is_remote
from audio_barlow_twins.shards.stored.form import wave_form
from audio_barlow_twins.shards.stored.shardset import open_shards

from ...task import About, LabelledClip, stored_clips, write_task
from ..clip import Clip
from ..folder import folder_clips
from ..source import Source

HERE = Path(__file__).parent
TASK = "demo_sounds-v1.0-full"


@dataclass(frozen=True, kw_only=True)
class Demo(Source):
    """Ingest the demo corpus that comes with the project: six minutes of free sounds."""

    name = "demo"

    out: str = "data/demo"
    """Folder for the results: `OUT/wave`, `OUT/logmel`, and the labelled task in `OUT/tasks`."""
    shard_clips: int = 32
    """Clips a shard."""
    wave: bool = True
    """Keep the 16 kHz waveforms too, from which the labelled task is cut."""

    def __post_init__(self) -> None:
        if not self.wave:
            raise UserError("the demo's labelled task is cut from its waveforms: leave --wave on")

    def clips(self) -> list[Clip]:
        return demo_clips()

    def finish(self, out: Path) -> None:
        """Write the labelled task, if `out` is on a disk, where evaluation can read it."""
        if is_remote(out):
            return
        wave, folds = out / "wave", demo_folds()
        made_from = open_shards(wave, wave_form()).fingerprint
        metadata = About().metadata(TASK, set(folds.values()), made_from)
        clips = (
            LabelledClip(folds[row.origin], row.key, samples, row.labels)
            for row, samples in stored_clips(wave, folds)
        )
        write_task(out / "tasks" / TASK, metadata, clips)


def demo_clips() -> list[Clip]:
    clips = folder_clips(HERE / "audio", HERE / "clips.csv")
    return [replace(clip, source="demo") for clip in clips]


def demo_folds() -> dict[str, str]:
    """Return the fold of every clip of the labelled task, by its origin."""
    with (HERE / "clips.csv").open(newline="", encoding="utf-8") as file:
        return {row["path"]: row["split"] for row in csv.DictReader(file) if row["split"]}

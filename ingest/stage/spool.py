"""Clips of an unfinished shard on disk: downloads cost requests, so they outlive the run."""

import json
import shutil
from collections.abc import Set
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import numpy as np

from audio_barlow_twins.shards.base.files import replacing
from audio_barlow_twins.shards.base.place import is_remote
from audio_barlow_twins.shards.stored.sidecar import Row


class Spool:
    """One file a clip beside the shard sets, until the shard is finished.

    A file is a line of JSON, the clip's row, followed by the samples as int16.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.there = {path.name for path in folder.glob("*.clip")} if folder.is_dir() else set()

    def get(self, key: str) -> tuple[Row, np.ndarray | None] | None:
        """Return a clip's row and samples, int16 [samples] or None if it failed; None if absent."""
        name = f"{key}.clip"
        if name not in self.there:
            return None
        line, _, samples = (self.folder / name).read_bytes().partition(b"\n")
        about = json.loads(line)
        about["tried_at"] = datetime.fromisoformat(about["tried_at"])
        row = Row(**about)
        return row, np.frombuffer(samples, "<i2").copy() if row.status == "ok" else None

    def put(self, row: Row, samples: np.ndarray | None) -> None:
        """Store a clip's row, and its samples, int16 [samples], unless it failed."""
        line = json.dumps(asdict(row), default=datetime.isoformat).encode()
        with replacing(self.folder / f"{row.key}.clip") as scratch:
            scratch.write_bytes(line + b"\n" + (b"" if samples is None else samples.tobytes()))

    def clear(self) -> None:
        """Delete everything, because the shard is finished."""
        for name in self.there | {path.name for path in self.folder.glob("*.clip")}:
            (self.folder / name).unlink(missing_ok=True)
        if not is_remote(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)


def clear_spools(folder: Path, finished: Set[str]) -> None:
    """Delete the spools of finished shards: a task may be killed between commit and `clear`.

    A local folder of spools is deleted too once it is empty.
    """
    for spool in folder.glob("*"):
        if spool.name in finished:
            Spool(spool).clear()
    if not is_remote(folder) and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()

"""Files of a run beside its shard sets: `ingest.json`, the plan, and `ingest.jsonl`, its log."""

import json
import os
import time
from pathlib import Path

from audio_barlow_twins.shards.base.files import replacing
from audio_barlow_twins.shards.base.place import is_remote

FLUSH_S = 60.0
"""Longest time that lines are buffered where a file cannot be appended to."""


class RunLog:
    """Append a line of JSON for every finished shard; a context manager."""

    def __init__(self, out: Path) -> None:
        self.path, self.remote = out / "ingest.jsonl", is_remote(out)
        self.lines, self.flushed_at = "", time.monotonic()
        if self.remote and self.path.exists():
            self.lines = self.path.read_text()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()

    def write(self, record: dict) -> None:
        line = json.dumps(record) + "\n"
        if not self.remote:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":  # a killed run left half a line
                        line = "\n" + line
                file.write(line.encode())
            return
        self.lines += line
        if time.monotonic() - self.flushed_at > FLUSH_S:
            self._flush()

    def _flush(self) -> None:
        """Rewrite all lines, because an object in a store cannot be appended to."""
        if self.remote and self.lines:
            with replacing(self.path) as scratch:
                scratch.write_text(self.lines)
        self.flushed_at = time.monotonic()


def write_plan(out: Path, plan: dict) -> None:
    """Write what is planned, so that `status` can tell how much of it is done."""
    with replacing(out / "ingest.json") as scratch:
        scratch.write_text(json.dumps(plan, indent=1) + "\n")


def read_plan(out: Path) -> dict:
    """Return what was planned; {} if no run got that far."""
    path = out / "ingest.json"
    return json.loads(path.read_text()) if path.exists() else {}

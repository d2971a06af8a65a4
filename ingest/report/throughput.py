"""How fast a set was made, from the lines of its ingest.jsonl."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

PAUSE_S = 300.0
"""Without a shard in progress for longer than this, the run was paused."""


@dataclass(frozen=True)
class Finished:
    """One line of ingest.jsonl: a finished shard."""

    end_s: float
    seconds: float
    clips: int
    node: str


@dataclass(frozen=True)
class Throughput:
    """Clips per second over the time in which shards were in progress."""

    at_s: np.ndarray
    """Middle of each bin, seconds of work since the start, float [N]."""
    clips_per_s: np.ndarray
    work_s: float
    pauses: int
    """Pauses longer than `PAUSE_S`, which are left out of all times."""


def read_log(path: Path) -> Iterator[Finished]:
    """Yield the finished shards; skip a line that a killed process left incomplete."""
    with path.open("rb") as file:
        for line in file:
            try:
                entry = json.loads(line)
                yield Finished(
                    end_s=datetime.fromisoformat(entry["at"]).timestamp(),
                    seconds=max(float(entry["seconds"]), 0.001),
                    clips=int(entry["clips"]),
                    node=str(entry["node"]),
                )
            except (ValueError, KeyError, TypeError):
                continue


def throughput(log: list[Finished], most: int = 100) -> Throughput:
    """Spread each shard's clips over its time; add them up in at most `most` bins."""
    ends, seconds, clips = (
        np.array([getattr(shard, name) for shard in log], float)
        for name in ("end_s", "seconds", "clips")
    )
    order = np.argsort(ends - seconds)
    begins, ends, clips = (ends - seconds)[order], ends[order], clips[order]
    latest = np.maximum.accumulate(ends)
    pause = begins[1:] - latest[:-1] > PAUSE_S
    first, last = begins[np.r_[True, pause]], latest[np.r_[pause, True]]
    worked = np.cumsum(last - first)
    knots = np.stack([first, last], axis=1).ravel()
    work = np.stack([worked - (last - first), worked], axis=1).ravel()
    begins, ends = np.interp(begins, knots, work), np.interp(ends, knots, work)
    edges = np.linspace(0, worked[-1], int(np.clip(len(log), 2, most)) + 1)
    done = [clips @ np.clip((edge - begins) / (ends - begins), 0, 1) for edge in edges]
    return Throughput(
        at_s=(edges[1:] + edges[:-1]) / 2,
        clips_per_s=np.diff(done) / np.diff(edges),
        work_s=float(worked[-1]),
        pauses=int(pause.sum()),
    )

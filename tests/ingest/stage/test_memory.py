"""A driver's memory over a plan of two million clips, planned and handed out for real."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

CLASSES = 527
CLIPS = 2_000_000
pytestmark = pytest.mark.slow

PROGRAM = """
import json, sys
from pathlib import Path
import pyarrow as pa
from ray import cloudpickle
from audio_barlow_twins.ingest.stage import stage
from audio_barlow_twins.ingest.sources.lists.audioset import audioset_clips
from audio_barlow_twins.ingest.run import Output
from audio_barlow_twins.ingest.stage.plan import Plan


def rss_mb(name="RssAnon"):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def no_work(task):
    name, n_clips, _ = task
    return stage.IngestReport(
        clips=n_clips, outcomes={"ok": n_clips}, shard=name,
        audio_s=0.0, seconds=1.0, node="here", identities={"a": n_clips},
    )


def packed(tasks):  # as Ray would; workers need not unpack it
    for job, shard in tasks:
        yield shard.name, len(shard.clips), cloudpickle.dumps((job, shard))


def fan_out(work, tasks, **how):
    return real_fan_out(no_work, packed(tasks), **how)


class Watched(stage.RunLog):
    def write(self, record):
        super().write(record)
        after.append(rss_mb())


after = []
real_fan_out, stage.fan_out, stage.RunLog = stage.fan_out, fan_out, Watched
lists, out = Path(sys.argv[1]), sys.argv[2]
begin = rss_mb()
plan = Plan("audioset", audioset_clips([lists]), 1024)
read = rss_mb()
pa.default_memory_pool().release_unused()  # what Arrow keeps for itself is no part of the plan
planned, peak = rss_mb(), rss_mb("VmHWM")
outcomes = stage.ingest(Output(out=out).job("https://site/", False), plan, 2)
json.dump({
    "begin": begin, "read": read, "planned": planned, "peak": peak, "after": after,
    "shards": len(plan), "ok": outcomes["ok"], "peak_at_end": rss_mb("VmHWM"),
}, sys.stdout)
"""


def write_list(path: Path, n_clips: int) -> None:
    """Write a list as Google published them, two labels a clip."""
    numbers = np.arange(n_clips)
    mids = [f"/m/{number:05x}" for number in range(CLASSES)]
    first, second = numbers % CLASSES, (numbers * 7 + 1) % CLASSES
    second = np.where(second == first, (first + 1) % CLASSES, second)
    starts = (numbers % 60) * 10
    columns = zip(numbers.tolist(), starts.tolist(), first.tolist(), second.tolist(), strict=True)
    with path.open("w", encoding="utf-8") as file:
        file.write("# Segments csv created Sun Mar  5 10:54:31 2017\n")
        file.write(
            f"# num_ytids={n_clips}, num_segs={n_clips}, num_unique_labels={CLASSES}, "
            f"num_positive_labels={2 * n_clips}\n# YTID, start_seconds, end_seconds, "
            "positive_labels\n"
        )
        file.writelines(
            f'-{number:010d}, {start}.000, {start + 10}.000, "{mids[one]},{mids[other]}"\n'
            for number, start, one, other in columns
        )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    """Plan and hand out all shards in a process of its own; only the work on a shard is a stub."""
    folder = tmp_path_factory.mktemp("memory")
    write_list(folder / "list.csv", CLIPS)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder / "list.csv"), str(folder / "out")],
        cwd=Path(__file__).parents[3],
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    yield json.loads(done.stdout)
    (folder / "list.csv").unlink()


def test_a_plan_stays_in_memory_as_columns(measured: dict) -> None:
    assert measured["shards"] == -(-CLIPS // 1024)
    millions = CLIPS / 1e6
    assert measured["planned"] - measured["begin"] < 30 + 135 * millions
    assert measured["peak"] < 600 + 300 * millions  # torch and pyarrow included


def test_a_drivers_memory_is_flat_while_all_shards_of_the_plan_are_handed_out(
    measured: dict,
) -> None:
    after, shards = measured["after"], measured["shards"]
    assert (len(after), measured["ok"]) == (shards, CLIPS)
    assert max(after) - after[shards // 10] < 50
    assert measured["peak_at_end"] == measured["peak"]

"""AudioSet from the local site, on two Ray nodes, into S3, with everything killed on the way.

First driver: a worker is killed, then the driver itself. Second driver: a node is killed, and the
run ends. Then the site gets better, and `retry` fetches what may be had by now.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interrupted_run import ROOT
from local_site import LocalSite
from process_tree import command_line, parent_of, processes
from ray.cluster_utils import Cluster
from waiting import HANG_S, wait_until

from audio_barlow_twins.shards.base.place import place

SHARD_CLIPS = 6
BETTER = ("page_500", "truncated", "cut", "live")
"""Kinds of videos that can be had when `retry` comes."""
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "good": ("ok", {}),
    "webm": ("ok", {"container": "webm"}),
    "picture": ("ok", {"container": "mp4"}),
    "no_ranges": ("ok", {"ranges": False}),
    "no_length": ("ok", {"container": "webm", "length_known": False}),
    "busy": ("ok", {"kind": "page_500", "first": 1}),
    "private": ("unavailable", {}),
    "removed": ("unavailable", {}),
    "terminated": ("unavailable", {}),
    "copyright": ("unavailable", {}),
    "page_404": ("unavailable", {}),
    "age_restricted": ("age_restricted", {}),
    "geo": ("geo", {}),
    "members": ("members", {}),
    "premium": ("members", {}),
    "drm": ("members", {}),
    "live": ("live", {}),
    "live_soon": ("live", {}),
    "page_500": ("network", {}),
    "page_hang": ("network", {}),
    "truncated": ("network", {}),
    "cut": ("network", {}),
    "silent": ("bad_audio", {}),
    "html": ("bad_audio", {}),
    "empty": ("refused", {}),
    "page_429": ("refused", {}),
    "media_403": ("refused", {}),
    "no_format": ("extractor", {}),
    "reworded": ("extractor", {}),
}
"""Class that every kind of video ends in, and what the site is told about it."""
OFTEN = {"good": 12, "webm": 3, "picture": 2}


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@dataclass
class Listed:
    """One row of the list."""

    ytid: str
    kind: str
    start_s: int
    key: str = field(init=False)

    def __post_init__(self) -> None:
        self.key = f"{self.ytid}_{self.start_s * 1000}"


def listed() -> list[Listed]:
    """Make the rows: good clips between the bad ones, ids that begin with a dash among them."""
    kinds = [kind for kind in KINDS for _ in range(OFTEN.get(kind, 1))]
    kinds = kinds[::2] + kinds[1::2]
    return [
        Listed(f"-{kind[:6]:_<7}{i:03d}", kind, 10 + 7 * (i % 6)) for i, kind in enumerate(kinds)
    ]


def write_list(path: Path, rows: list[Listed]) -> None:
    """Write the rows as AudioSet's lists are written."""
    n = len(rows)
    counts = f"num_ytids={n}, num_segs={n}, num_unique_labels=1, num_positive_labels={n}"
    lines = ["# Segments csv created by a test", f"# {counts}", "# YTID, start_seconds, end"]
    lines += [f'{r.ytid}, {r.start_s}.000, {r.start_s + 10}.000, "/m/09x0r"' for r in rows]
    path.write_text("\n".join(lines) + "\n")


@dataclass
class Tale:
    """What happened."""

    out: str
    rows: list[Listed]
    killed_worker: str = ""
    spooled: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    nodes_left: int = 0
    counts: dict[str, Any] = field(default_factory=dict)
    before_retry: dict[str, Any] = field(default_factory=dict)
    after_retry: dict[str, Any] = field(default_factory=dict)


class Stage:
    """A site, a cluster of two nodes besides its head, and a bucket."""

    def __init__(self, folder: Path, site: LocalSite, out: str) -> None:
        self.folder, self.site, self.out = folder, site, out
        self.rows = listed()
        write_list(folder / "list.csv", self.rows)
        for row in self.rows:
            about = KINDS[row.kind][1]
            good = "good" if KINDS[row.kind][0] == "ok" else row.kind
            site.add(row.ytid, **({"kind": good} | about))
        # An agent of an earlier cluster may still hold the usual port; jobs go through the agent.
        ports = {"dashboard_port": free_port(), "dashboard_agent_listen_port": free_port()}
        # A job looks for its cluster by a file in this folder, and takes any other without it: that
        # of another test. The name is short, for sockets are made below it.
        self.home = tempfile.mkdtemp(prefix="ray-")
        head = {"num_cpus": 0, "include_dashboard": True, "temp_dir": self.home, **ports}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        (Path(self.home) / "ray_current_cluster").write_text(self.cluster.address)  # as `ray start`
        self.dashboard = f"http://{self.cluster.head_node.webui_url}"
        self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(2)]

    def close(self) -> None:
        """Stop the cluster and remove its folder."""
        self.cluster.shutdown()
        shutil.rmtree(self.home, ignore_errors=True)

    def start(self, *options: str, first: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Start a driver; `first` stands before the name of the source."""
        site = ["--page", f"{self.site.url}/watch?v=", "--canary", "canary00000"]
        pace = ["--per-hour", "1e6", "--burst", "100", "--gap-s", "0", "--pause-s", "3"]
        patience = ["--tries", "2", "--backoff-s", "0.1", "--timeout-s", "6"]
        shape = ["--shard-clips", str(SHARD_CLIPS), "--at-once", "3", "--section-mb", "0.6"]
        who = ["--proxy", self.site.proxy("left"), self.site.proxy("right")]
        command = [
            *(
                sys.executable,
                "-m",
                "audio_barlow_twins",
                "ingest",
                *first,
                "audioset",
                str(self.folder / "list.csv"),
            ),
            *("--out", self.out, *site, *pace, *patience, *shape, *who, *options),
        ]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"RAY_ADDRESS": self.cluster.address},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, told: Tale, driver: subprocess.Popen[str]) -> None:
        """Wait for the end of a driver and note how it went."""
        told.texts.append(driver.communicate(timeout=HANG_S)[0])
        told.codes.append(driver.returncode)

    def committed(self) -> set[str]:
        """Name the shards that both sets have."""
        stems = [
            {path.stem for path in place(f"{self.out}/{name}").glob("shard-*.parquet")}
            for name in ("wave", "logmel")
        ]
        return set.intersection(*stems)

    def spooled(self) -> list[str]:
        """Name the clips that are kept of unfinished shards."""
        return [path.name for path in place(f"{self.out}/spool").glob("*/*.clip")]

    def workers(self) -> dict[int, str]:
        """List the tasks of this cluster's nodes by process id."""
        raylets = {each["raylet"][0].process.pid for each in (n.all_processes for n in self.nodes)}
        lines = {pid: command_line(pid) for pid in processes() if parent_of(pid) in raylets}
        return {pid: line for pid, line in lines.items() if line.startswith("ray::ingest_shard")}


def wait_for(what: Callable[[], Any], driver: subprocess.Popen[str]) -> Any:
    """Poll until `what` is true; it must become so while the driver runs."""
    return wait_until(what, driver, every_s=0.3)


def live_on_a_cluster(stage: Stage) -> Tale:
    """Run, kill, run again, get better, retry."""
    told = Tale(stage.out, stage.rows)
    stage.site.change(limit_after=25, limit_s=3.0)
    driver = stage.start()
    pid, told.killed_worker = next(iter(wait_for(stage.workers, driver).items()))
    wait_for(stage.spooled, driver)
    os.kill(pid, signal.SIGKILL)
    wait_for(stage.committed, driver)
    told.spooled = wait_for(stage.spooled, driver)
    driver.kill()
    driver.communicate()
    told.codes.append(driver.returncode)
    time.sleep(1)
    before = stage.committed()

    driver = stage.start()
    wait_for(lambda: stage.committed() > before, driver)
    stage.cluster.remove_node(stage.nodes[1], allow_graceful=False)
    stage.finish(told, driver)
    told.nodes_left = sum(node["Alive"] for node in _nodes(stage)) - 1
    told.counts = stage.site.counts()

    told.before_retry = objects(stage.out)
    better = {r.ytid: {"kind": "good"} for r in stage.rows if r.kind in BETTER}
    stage.site.change(limit_after=0, videos=better)
    stage.finish(told, stage.start("--now", first=("retry",)))
    told.after_retry = objects(stage.out)
    return told


def objects(out: str) -> dict[str, str]:
    """Return a hash of every object of the shard sets."""
    kinds = [f"{out.removeprefix('s3://')}/{name}/" for name in ("wave", "logmel")]
    return {name: tag for name, tag in all_objects(out).items() if name.startswith(tuple(kinds))}


def all_objects(out: str) -> dict[str, str]:
    """Return a hash of every object below a URL by its name."""
    fs = place(out).fs  # type: ignore[attr-defined]
    fs.invalidate_cache()
    return {name: about["ETag"] for name, about in fs.find(out, detail=True).items()}


def _nodes(stage: Stage) -> list[dict[str, Any]]:
    """Ask the cluster for its nodes in a process of its own."""
    program = "import ray, json; ray.init(log_to_driver=False, logging_level='ERROR');"
    program += "print(json.dumps([{'Alive': n['Alive']} for n in ray.nodes()]))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=os.environ | {"RAY_ADDRESS": stage.cluster.address},
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_S,
    )
    return json.loads(done.stdout.strip().splitlines()[-1])

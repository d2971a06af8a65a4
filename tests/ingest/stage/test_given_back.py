"""A machine that may not ask any more gives its shard back, and another one makes it."""

import gc
import json
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray.cloudpickle
import soundfile
from local_site import PLUGIN, LocalSite
from quiet_cluster import quiet_cluster

from audio_barlow_twins.ingest.errors import BotCheck
from audio_barlow_twins.ingest.sources.clip import Clip
from audio_barlow_twins.ingest.stage import stage
from audio_barlow_twins.ingest.stage.plan import Plan, PlannedShard
from audio_barlow_twins.ingest.stage.spool import Spool
from audio_barlow_twins.ingest.stage.stage import IngestReport, Job, ingest, ingest_shard
from audio_barlow_twins.ingest.video.download import Downloader
from audio_barlow_twins.ingest.video.fetcher import Identity, Media
from audio_barlow_twins.ingest.video.governor import Governor, Pace
from audio_barlow_twins.ingest.video.identity import Identities
from audio_barlow_twins.ingest.video.options import Videos
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.cluster.fan_out import fan_out
from audio_barlow_twins.shards.decode.cut import DecodeLimits
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.shardset import sidecar_paths
from audio_barlow_twins.shards.stored.sidecar import Row, read_rows

pytestmark = [
    # What comes out of a spool is read-only, which torch warns of once.
    pytest.mark.filterwarnings("ignore:The given NumPy array is not writable"),
    # Ray leaves sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]
FREE = Pace(per_hour=3.6e9, burst=1e6, gap_s=0)
HERE, THERE = "address here", "address there"


class Town:
    """Two machines, one governor and a site, all in this process; a site's answer is a tone."""

    def __init__(self, patch: pytest.MonkeyPatch, out: Path, tone: Path) -> None:
        self.patch, self.tone = patch, tone
        self.governor = Governor(FREE, lambda: 0.0)
        self.asked: list[tuple[str, str]] = []
        self.may_ask = {HERE: 10**6, THERE: 10**6}
        """Requests of each machine until the site takes it for a robot."""
        self.job = Job(
            out=out,
            front_end=FrontEnd(),
            limits=DecodeLimits(),
            videos=Videos(canary="page of a good video"),
            governor=self,  # type: ignore[arg-type]
        )
        patch.setattr(stage, "GIVE_BACK_S", 0.0)
        patch.setattr(stage, "Downloader", partial(Downloader, fetcher=lambda options: self))
        for name in (HERE, THERE):
            self.call(Governor.lease, [name])  # both have begun

    def call(self, method: Callable[..., Any], *args: Any) -> Any:
        """Stand for the handle of the governor."""
        return method(self.governor, *args)

    def fetch(self, page: str, identity: Identity, folder: Path, whole: bool = False) -> Media:
        """Stand for `VideoFetcher.fetch`."""
        if self.may_ask[identity.name] <= 0:
            raise BotCheck("Sign in to confirm")
        self.may_ask[identity.name] -= 1
        self.asked.append((page, identity.name))
        return Media(path=str(self.tone), version="v", format="f")

    def close(self) -> None:
        """Stand for `VideoFetcher.close`."""

    def make(self, machine: str, shard: PlannedShard, at_once: int = 1) -> IngestReport:
        """Run the task of one shard on a machine."""
        self.patch.setattr(stage, "node_address", lambda: machine.removeprefix("address "))
        return ingest_shard((replace(self.job, at_once=at_once), shard))

    def files(self) -> list[str]:
        """Name what lies in the two sets."""
        sets = (self.job.out / kind for kind in ("wave", "logmel"))
        return sorted(path.name for folder in sets for path in folder.glob("*"))


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tone: Callable[..., Any]) -> Town:
    """Make a town whose site has a tone of 10 s."""
    soundfile.write(tmp_path / "tone.wav", tone(10.0), 16000)
    return Town(monkeypatch, tmp_path / "out", tmp_path / "tone.wav")


def planned(n_clips: int, page: str = "page ", shard_clips: int = 8) -> Plan:
    """Plan videos."""
    alike = Clip(
        key="", source="audioset", path="", origin="", video=True, start_s=0.0, end_s=10.0,
        cut="perhaps",
    )  # fmt: skip
    clips = [
        replace(alike, key=f"k{i:03d}", path=f"{page}clip{i:07d}", origin=f"o{i}")
        for i in range(n_clips)
    ]
    return Plan("audioset", clips, shard_clips)


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_shard_that_is_given_back_commits_nothing_counts_nothing_and_keeps_what_was_got(
    town: Town, at_once: int
) -> None:
    town.may_ask[HERE] = 5
    report = town.make(HERE, planned(8)[0], at_once)
    assert (report.given_back, report.shard) == (True, "shard-000000")
    assert (report.clips, report.outcomes, report.identities) == (0, {}, {})
    assert town.files() == []
    assert len(list((town.job.out / "spool" / "shard-000000").glob("*.clip"))) == 5


@pytest.mark.parametrize("at_once", [1, 3])
def test_another_machine_makes_it_and_asks_only_for_what_is_not_there(
    town: Town, at_once: int
) -> None:
    town.may_ask[HERE] = 5
    shard = planned(8)[0]
    town.make(HERE, shard, at_once)
    report = town.make(THERE, shard, at_once)
    assert (report.given_back, report.outcomes) == (False, {"ok": 8})
    assert report.identities == {HERE: 5, THERE: 3}
    assert sorted(page for page, _ in town.asked) == [clip.path for clip in shard.clips]
    rows = read_rows(town.job.out / "wave" / "shard-000000.parquet")
    assert [(row.key, row.attempts) for row in rows] == [(clip.key, 1) for clip in shard.clips]
    assert not (town.job.out / "spool" / "shard-000000").exists()


def test_what_a_kill_after_the_commit_left_in_the_spool_is_cleared_by_the_next_run(
    town: Town,
) -> None:
    plan = planned(16)
    reports = [town.make(HERE, shard) for shard in plan]
    assert [report.clips for report in reports] == [8, 8]
    (row, *_) = read_rows(town.job.out / "wave" / "shard-000000.parquet")
    for name in ("shard-000000", "of-another-plan"):
        Spool(town.job.out / "spool" / name).put(row, None)
    assert not ingest(town.job, plan, None)
    assert [path.name for path in (town.job.out / "spool").iterdir()] == ["of-another-plan"]


def test_two_machines_write_the_same_tars_as_one(town: Town, tmp_path: Path) -> None:
    shard = planned(8)[0]
    town.may_ask[HERE] = 5
    town.make(HERE, shard)
    town.make(THERE, shard)
    both, town.job = town.job.out, replace(town.job, out=tmp_path / "alone")
    town.make(THERE, shard)
    for kind in ("wave", "logmel"):
        made, alone = (out / kind / f"{shard.name}.tar" for out in (both, town.job.out))
        assert made.read_bytes() == alone.read_bytes()


def test_the_run_ends_when_the_last_machine_is_stopped_and_what_was_got_is_kept(
    town: Town,
) -> None:
    shard = planned(8)[0]
    town.may_ask = {HERE: 3, THERE: 2}
    town.make(HERE, shard)
    with pytest.raises(UserError, match=r"no identity is left .*Sign in .*run the command again"):
        town.make(THERE, shard)
    assert town.files() == []
    town.may_ask = {HERE: 10**6, THERE: 0}
    town.call(Governor.set_pace, FREE)  # somebody runs the same command again
    assert town.make(HERE, shard).outcomes == {"ok": 8}
    assert len(town.asked) == 8


class Proxied(Identities):
    """Machines whose own addresses the site tells apart: each reaches it by a proxy of its own."""

    def here(self, address: str, folder: Path) -> tuple[Identity, ...]:
        """Return the one identity of this machine."""
        proxy = f"http://m{address.replace('.', '-')}:x@{os.environ['TEST_SITE']}"
        return (Identity(name=f"address {address}", proxy=proxy),)


def make_soon(task: tuple[Job, PlannedShard]) -> IngestReport:
    """Make a shard, and give it back without the long pause."""
    from audio_barlow_twins.ingest.stage import (
        stage,  # this function travels to the workers by its value
    )

    stage.GIVE_BACK_S = 0.5
    return stage.ingest_shard(task)


@dataclass
class Told:
    """What is left of a run on two nodes, one of which was taken for a robot."""

    out: Path
    plan: Plan
    outcomes: Counter[str]
    bar: str
    site: LocalSite
    returns: int
    """How often a shard was given back."""


def take_for_a_robot(site: LocalSite, name: str) -> None:
    """Stop one machine once both have begun."""
    while len(site.identities) < 2 or site.identities[name] < 2:
        if site.closing.wait(0.01):
            return
    site.change(bots=[name])


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """Ingest on two nodes; the driver's, which Ray prefers, is the one that is stopped."""
    folder = tmp_path_factory.mktemp("given-back")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.MonkeyPatch.context() as patch, LocalSite(folder, seconds=10) as site:
        site.change(delay_s=0.2)
        tools = str(Path(sys.executable).parent)
        patch.setenv("PYTHONPATH", PLUGIN, prepend=os.pathsep)
        patch.setenv("PATH", os.pathsep.join([tools, os.environ["PATH"]]))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("TEST_SITE", site.address)
        cluster = quiet_cluster(1)
        try:
            cluster.add_node(num_cpus=1, node_ip_address="127.0.0.2")
            patch.setenv("RAY_ADDRESS", cluster.address)
            patch.setattr(stage, "ingest_shard", make_soon)
            name = f"proxy m{cluster.head_node.node_ip_address.replace('.', '-')}"
            watch = threading.Thread(target=take_for_a_robot, args=(site, name))
            watch.start()
            yield run(folder, site)
            watch.join()
        finally:
            site.closing.set()
            cluster.shutdown()
            gc.collect()


def run(folder: Path, site: LocalSite) -> Told:
    """Run the stage as the command line does."""
    plan = planned(12, f"{site.url}/watch?v=", shard_clips=3)
    job = Job(
        out=folder / "out",
        front_end=FrontEnd(),
        limits=DecodeLimits(),
        videos=Videos(canary=site.page("canary00000"), pace=FREE),
        identities=Proxied(),
    )
    returns = Counter[str]()

    def counting(*arguments: Any, **options: Any) -> Iterator[IngestReport]:
        for report in fan_out(*arguments, **options):
            returns[report.shard] += report.given_back
            assert returns[report.shard] < 25, f"{report.shard} comes back again and again"
            yield report

    with (folder / "bar").open("w") as bar, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", bar)
        patch.setattr(stage, "fan_out", counting)
        outcomes = ingest(job, plan, None)
    return Told(job.out, plan, outcomes, (folder / "bar").read_text(), site, returns.total())


def rows_of(told: Told, kind: str) -> list[Row]:
    """Read all rows of a set."""
    return [row for path in sidecar_paths(told.out / kind) for row in read_rows(path)]


@pytest.mark.slow
def test_on_a_cluster_the_shards_of_a_stopped_node_are_made_by_the_other_one(told: Told) -> None:
    assert told.returns > 0
    for kind in ("wave", "logmel"):
        rows = rows_of(told, kind)
        assert [row.key for row in rows] == [clip.key for clip in told.plan.clips]
        assert {row.status for row in rows} == {"ok"}
    by = Counter(row.identity for row in rows_of(told, "wave"))
    assert by["address 127.0.0.2"] >= 9  # three shards of four at least


@pytest.mark.slow
def test_every_clip_counts_once_in_the_bar_the_log_and_the_outcomes(told: Told) -> None:
    assert told.outcomes == {"ok": 12}
    lines = [json.loads(line) for line in (told.out / "ingest.jsonl").read_text().splitlines()]
    assert sorted(line["shard"] for line in lines) == [shard.name for shard in told.plan]
    assert sum(line["clips"] for line in lines) == 12
    assert told.bar.splitlines()[-1].startswith("ingest 12 of 12 clips (100 %), ")
    assert all(int(n) <= 12 for n in re.findall(r"^ingest (\d+) of", told.bar, re.MULTILINE))


@pytest.mark.slow
def test_what_the_stopped_node_had_got_is_not_fetched_again(told: Told) -> None:
    kept = [row for row in rows_of(told, "wave") if row.identity != "address 127.0.0.2"]
    assert kept
    for row in kept:
        page = told.plan.clips[int(row.key[1:])].path
        assert told.site.pages[page.partition("v=")[2]] == 1
    refused = sum(told.site.refused.values())
    assert sum(told.site.pages.values()) == 12 + refused
    assert not (told.out / "spool").exists()

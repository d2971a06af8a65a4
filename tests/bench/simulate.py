"""Simulate days of ingest from a site in minutes, with the real governor on a simulated clock.

The simulation has groups of workers that request leases from the governor as `Downloader` does, and
a site that answers with a delay, limits identities that ask too often, and sometimes answers with a
bot check. It approximates:
- shards go to workers in turn, then to idle ones; Ray may distribute them less evenly;
- of the slots of a group that wait for a lease (one download of each asks), one asks again, at the
  time of the earliest with its jitter; the requests of the others are counted, but not made;
- clips do not wait for other clips of the shard, decoding takes no time, and answers that arrive
  after a run has stopped or a shard was given back still count.
"""

import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import log

import tyro

from audio_barlow_twins.ingest.stage.stage import GIVE_BACK_S
from audio_barlow_twins.ingest.video.governor import Blame, Governor, Pace
from audio_barlow_twins.shards.base.cli import run_command, say

HOUR_S = 3600.0
LONGEST_NAP_S = 30.0
"""A download that waits for a lease asks at least this often; see `ingest.video.download`."""


@dataclass(frozen=True, kw_only=True)
class Simulate:
    """Simulate how long it takes to download a set from a site at the governor's pace.

    The defaults are AudioSet and the pace of a guest; every machine has its own address.
    """

    clips: int = 2_084_320
    """Clips of the set; AudioSet has 2,084,320 in its three lists."""
    identities: tuple[int, ...] = (1, 10, 100, 1000)
    """Numbers of identities to simulate, each a line of the table."""
    pace: Pace = field(default_factory=Pace)
    """Pace of each identity."""
    shared: int = 1
    """Identities of a group of workers: 1 for a machine's address, more for proxies."""
    workers: int = 1
    """Slots of each group."""
    downloads: int = 8
    """Concurrent downloads of a slot."""
    shard_clips: int = 1024
    """Clips in a shard; a slot works on one shard."""
    answer_s: float = 4.0
    """Mean download time of a video, s."""
    spread: float = 0.5
    """Sigma of the log-normal distribution of these times; 0 makes them equal."""
    gone: float = 0.2
    """Share of clips that the site no longer has."""
    limit: float = 400.0
    """Videos in an hour after which the site limits an identity."""
    limited_s: float = 3600.0
    """How long the limit lasts, s."""
    bot_checks: float = 0.0
    """Share of requests that the site answers with a bot check."""
    restart_s: float = 3600.0
    """Time until a run that stopped because no identity was left is started again, s."""
    seed: int = 0
    """Seed of the random numbers."""

    def __post_init__(self) -> None:
        counts = (self.clips, self.shared, self.workers, self.downloads, self.shard_clips)
        if min(*counts, *self.identities) < 1 or self.answer_s <= 0:
            raise ValueError(f"{self}: counts are at least 1, --answer-s is more than 0")
        if not (0 <= self.gone <= 1 and 0 <= self.bot_checks < 1):
            raise ValueError(f"--gone {self.gone}, --bot-checks {self.bot_checks}: from 0 to 1")

    def run(self) -> None:
        """Print a line for every number of identities."""
        say("identities    hours  videos/h  each/h  peak/h  paused  idle  requests beyond"
            "  refused  restarts  asks/s")  # fmt: skip
        for number in self.identities:
            found = simulate(self, number)
            say(
                f"{number:>10} {found.hours:>8,.1f} {found.per_hour:>9,.0f} "
                f"{found.per_hour / number:>7,.0f} {found.busiest:>7,} {found.paused:>6.1%} "
                f"{found.idle:>5.0%} {found.requests - self.clips:>16,} {found.refused:>8,} "
                f"{found.restarts:>9,} {found.asks / found.hours / HOUR_S:>7.1f}"
            )


@dataclass(frozen=True)
class Outcome:
    """The result of a simulation."""

    hours: float
    got: int
    """Clips that were downloaded."""
    refused: int
    """Clips marked as refused: the site limited them, but not the good video right after."""
    requests: int
    """Requests for videos, including tests of identities with a good video."""
    paused: float
    """Share of time that an identity was paused, averaged over identities."""
    idle: float
    """Share of time that downloads waited for a lease or for a shard."""
    busiest: int
    """Most requests of one identity within an hour."""
    restarts: int
    """How often all identities were stopped, which stops the run."""
    given_back: int
    """How often a slot whose identities were all stopped gave a shard back."""
    asks: int
    """Requests to the governor for a lease."""
    per_hour: float
    """Clips settled per hour, including those that are gone."""


def simulate(what: Simulate, n_identities: int) -> Outcome:
    """Run one simulation to its end."""
    run = _Run(what, n_identities)
    run.go()
    still = (max(0.0, each.paused_until - run.now) for each in run.governor.accounts.values())
    return Outcome(
        hours=run.now / HOUR_S,
        got=run.found["ok"],
        refused=run.found["refused"],
        requests=run.site.requests,
        paused=(run.paused_s - sum(still)) / (run.now * n_identities),
        idle=1 - run.busy_s / (run.now * len(run.groups) * what.workers * what.downloads),
        busiest=run.site.busiest,
        restarts=run.found["restarts"],
        given_back=run.found["given_back"],
        asks=run.found["asks"],
        per_hour=run.settled / run.now * HOUR_S,
    )


class _Site:
    """Answer requests; limit an identity that asked too often within the last hour."""

    def __init__(self, what: Simulate, draw: random.Random) -> None:
        self.what, self.draw = what, draw
        self.asked: dict[str, deque[float]] = {}
        self.limited_until: dict[str, float] = {}
        self.requests = self.busiest = 0

    def answer(self, name: str, now: float, gone: float) -> str:
        """Return the site's answer: ok, unavailable, limited or bot_check."""
        asked = self.asked.setdefault(name, deque())
        asked.append(now)
        while asked[0] <= now - HOUR_S:
            asked.popleft()
        self.requests += 1
        self.busiest = max(self.busiest, len(asked))
        if self.limited_until.get(name, 0.0) > now:
            return "limited"
        if len(asked) > self.what.limit:
            self.limited_until[name] = now + self.what.limited_s
            return "limited"
        if self.draw.random() < self.what.bot_checks:
            return "bot_check"
        return "unavailable" if self.draw.random() < gone else "ok"


@dataclass(eq=False)
class _Group:
    """Workers with the same identities: those of a machine, or all behind proxies."""

    names: list[str]
    waiting: deque["_Slot"] = field(default_factory=deque)
    """A slot for each of its downloads that waits for a lease."""
    asks_at: float = 0.0
    """When to ask the governor again."""


@dataclass(eq=False)
class _Slot:
    """A worker with its shard."""

    group: _Group
    left: int = 0
    """Clips of its shard that have not been started."""
    under_way: int = 0


class _Run:
    """The events of one simulation in order of time."""

    def __init__(self, what: Simulate, n_identities: int) -> None:
        self.what, self.draw = what, random.Random(what.seed)
        self.now = self.busy_s = self.paused_s = 0.0
        self.governor = Governor(what.pace, lambda: self.now)
        self.site = _Site(what, self.draw)
        self.events: list[tuple[float, int, Callable[..., None], tuple]] = []
        whole, rest = divmod(what.clips, what.shard_clips)
        self.todo = deque([what.shard_clips] * whole + [rest] * (rest > 0))
        self.idle: list[_Slot] = []
        self.found = Counter[str]()
        self.settled, self.order = 0, count()
        self.mean_log = log(what.answer_s) - what.spread**2 / 2
        names = [f"identity {i}" for i in range(n_identities)]
        firsts = range(0, n_identities, what.shared)
        self.groups = [_Group(names[i : i + what.shared]) for i in firsts]

    def go(self) -> None:
        """Settle every clip."""
        for group in self.groups * self.what.workers:
            self._take_shard(_Slot(group))
            self._ask(group)
        while self.settled < self.what.clips:
            self.now, _, happen, details = heappop(self.events)
            happen(*details)

    def _at(self, time: float, happen: Callable[..., None], *details: object) -> None:
        heappush(self.events, (time, next(self.order), happen, details))

    def _take_shard(self, slot: _Slot) -> None:
        clips = self.todo.popleft() if self.todo else 0
        slot.under_way = min(clips, self.what.downloads)
        slot.left = clips - slot.under_way
        slot.group.waiting.extend([slot] * slot.under_way)
        if not clips:
            self.idle.append(slot)

    def _ask(self, group: _Group) -> None:
        """Request leases for the waiting slots until the governor makes them wait."""
        while group.waiting and self.now >= group.asks_at:
            lease, many = self.governor.lease(group.names), len(set(group.waiting))
            self.found["asks"] += 1 if lease.identity else many
            if lease.stop:
                self._halt()
            elif lease.elsewhere:
                self._give_back(group)
            elif lease.identity:
                self._request(lease.identity, group.waiting.popleft())
            else:
                nap = min(lease.wait_s, LONGEST_NAP_S)
                # The minimum of `many` uniform jitters of up to a tenth.
                jitter = 0.1 * nap * (1 - self.draw.random() ** (1 / many))
                self._come_again(group, self.now + nap + jitter + 0.01)

    def _come_again(self, group: _Group, time: float) -> None:
        group.asks_at = time
        self._at(time, self._ask, group)

    def _request(self, name: str, slot: _Slot, test: bool = False) -> None:
        answer = self.site.answer(name, self.now, 0.0 if test else self.what.gone)
        seconds = self.draw.lognormvariate(self.mean_log, self.what.spread)
        self.busy_s += seconds
        self._at(self.now + seconds, self._answered, name, slot, answer, test)

    def _answered(self, name: str, slot: _Slot, answer: str, test: bool) -> None:
        """Handle an answer as `Downloader` does, for a clip or for the good video."""
        if answer == "limited" and not test and self.governor.should_test(name):
            self._request(name, slot, test=True)
            return
        kinds = {"limited": Blame.LIMITED, "bot_check": Blame.REFUSED}
        blame = kinds.get(answer, Blame.CLIP)
        if test or blame is Blame.REFUSED:
            self.governor.report_test(name, blame, answer)
            self.paused_s += self.what.pace.pause_s * (blame is Blame.LIMITED)
        if blame is Blame.CLIP:
            self.found["refused" if test else answer] += 1
            self._settle(slot)
        else:
            slot.group.waiting.append(slot)
        self._ask(slot.group)

    def _settle(self, slot: _Slot) -> None:
        self.settled += 1
        if slot.left:
            slot.left -= 1
            slot.group.waiting.append(slot)
        elif slot.under_way > 1:
            slot.under_way -= 1
        else:
            self._take_shard(slot)

    def _give_back(self, group: _Group) -> None:
        """Give back the shards of a group whose identities are all stopped."""
        for slot in group.waiting:
            slot.under_way, slot.left = slot.under_way - 1, slot.left + 1
            if not slot.under_way:
                self._at(self.now + GIVE_BACK_S, self._given_back, slot)
        group.waiting.clear()

    def _given_back(self, slot: _Slot) -> None:
        """Hand the shard to an idle slot, possibly the same one, as Ray does."""
        self.found["given_back"] += 1
        self.todo.append(slot.left)
        free, self.idle = [*self.idle, slot], []
        self.draw.shuffle(free)
        for each in free:
            self._take_shard(each)
            self._ask(each.group)

    def _halt(self) -> None:
        """Stop the run, as `lease` demands, and schedule its restart."""
        self.found["restarts"] += 1
        begin = self.now + self.what.restart_s
        self._at(begin, self.governor.set_pace, self.what.pace)
        for group in self.groups:
            self._come_again(group, begin)


if __name__ == "__main__":
    run_command(lambda: tyro.cli(Simulate).run())

"""Which identity may ask the site, and when: a token bucket and a circuit breaker for each.

An identity is an address, a proxy or a cookie jar. One governor, a named Ray actor, serves all
workers of a cluster. It never blocks: a caller that must wait is told how long. It does not depend
on Ray, yt-dlp or the wall clock, so days of its work are simulated in seconds.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast an identity may ask."""

    per_hour: float = 300
    """Videos an hour from one address, proxy or cookie jar; a guest of YouTube gets about 300."""
    burst: float = 5
    """Videos that may follow each other at once after a rest."""
    gap_s: float = 2.0
    """Least time between the starts of two downloads, s."""
    pause_s: float = 3600.0
    """Pause of an identity that the site limits, s, unless the site says how long (Retry-After)."""

    def __post_init__(self) -> None:
        if self.per_hour <= 0 or self.burst < 1 or self.gap_s < 0 or self.pause_s < 0:
            raise ValueError(
                f"{self}: --pace.per-hour is more than 0, --pace.burst at least 1, the times are "
                "not negative"
            )


class Blame(Enum):
    """What is to blame when a video cannot be had."""

    CLIP = "none"
    """The video alone: the known good one can be had."""
    LIMITED = "pause"
    """The identity, which the site limits: it pauses."""
    REFUSED = "stop"
    """The identity, which the site refuses for good: it stops."""
    OFFLINE = "offline"
    """The network: the identity does not reach the site."""
    ENVIRONMENT = "break"
    """This machine or its tools: the run stops."""


@dataclass(frozen=True)
class Lease:
    """Leave to ask the site, or the reason why not."""

    identity: str = ""
    """The identity to use, '' if none may ask now."""
    wait_s: float = 0.0
    """When to ask for a lease again, s."""
    stop: str = ""
    """Why no identity may ask any more; '' while the run goes on."""
    elsewhere: bool = False
    """No identity of this machine may ask any more, but some of other machines may."""


@dataclass
class _Account:
    """What the governor knows of one identity."""

    tokens: float
    filled_at: float
    not_before: float = 0.0
    paused_until: float = 0.0
    """The breaker is open until then."""
    tested_until: float = 0.0
    """A worker fetches the good video to find what is to blame; others wait until then."""
    why: str = ""
    offline: int = 0
    """How often in a row it could not reach the site."""
    stopped: str = ""
    heard_at: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)


OFFLINE_S = 30.0
"""First pause of an identity that cannot reach the site; doubles up to `Pace.pause_s`."""
LOOK_S = 1.0
"""How soon to ask again while a worker makes a test."""
SILENT_S = 3600.0
"""An identity that was silent for so long is gone, with its machine."""
TEST_S = 600.0
"""Longest wait for the result of a test; its worker may have been lost."""


class Governor:
    """Token bucket and breaker of every identity; not thread-safe."""

    def __init__(self, pace: Pace, clock: Callable[[], float] = time.time) -> None:
        self.pace, self.clock = pace, clock
        self.accounts: dict[str, _Account] = {}
        self.broken = ""

    def set_pace(self, pace: Pace) -> None:
        """Set the pace of a new run, and forget what stopped the last one."""
        self.pace, self.broken = pace, ""
        for account in self.accounts.values():
            account.stopped, account.tested_until = "", 0.0

    def lease(self, identities: Sequence[str]) -> Lease:
        """Grant the first of `identities` that may ask, or say when to ask again."""
        if self.broken:
            return Lease(stop=self.broken)
        now = self.clock()
        accounts = {name: self._account(name, now) for name in identities}
        alive = {name: account for name, account in accounts.items() if not account.stopped}
        if not alive:
            if any(self._goes_on(account, now) for account in self.accounts.values()):
                return Lease(elsewhere=True)
            reasons = "; ".join(f"{name}: {each.stopped}" for name, each in accounts.items())
            return Lease(stop=f"no identity is left that may ask ({reasons})")
        ready = {name: self._ready_at(account, now) for name, account in alive.items()}
        name = min(ready, key=lambda name: (ready[name], alive[name].counts.get("leases", 0)))
        if ready[name] > now:
            return Lease(wait_s=ready[name] - now)
        account = alive[name]
        account.tokens -= 1
        account.not_before = now + self.pace.gap_s
        self._count(account, "leases")
        return Lease(name)

    def answered(self, identity: str, outcome: str) -> None:
        """Count an answer of the site to an identity."""
        self._count(self._account(identity, self.clock()), outcome)

    def should_test(self, identity: str) -> bool:
        """Tell whether this caller should fetch the known good video and call `report_test`.

        If not, another caller does, or what is to blame is known: ask for a new lease.
        """
        now = self.clock()
        account = self._account(identity, now)
        if self.broken or account.stopped or max(account.paused_until, account.tested_until) > now:
            return False
        account.tested_until = now + TEST_S
        return True

    def report_test(
        self, identity: str, blame: Blame, message: str = "", wait_s: float = 0.0
    ) -> None:
        """Act on what a test, or the site itself, has shown; `message` is its reason.

        An identity that is limited or offline pauses for `wait_s`, if the site has said how long.
        """
        account = self._account(identity, self.clock())
        account.tested_until = 0.0
        self._count(account, blame.value)
        account.offline = account.offline + 1 if blame is Blame.OFFLINE else 0
        if blame is Blame.LIMITED:
            account.paused_until = self.clock() + (wait_s or self.pace.pause_s)
            account.why = "is limited,"
        elif blame is Blame.OFFLINE:
            pause_s = OFFLINE_S * 2 ** (account.offline - 1)
            account.paused_until = self.clock() + max(min(pause_s, self.pace.pause_s), wait_s)
            account.why = "does not reach the site,"
        elif blame is Blame.REFUSED:
            account.stopped = message
        elif blame is Blame.ENVIRONMENT:
            self.broken = message

    def describe(self) -> str:
        """Return a short text on which identities cannot ask now, '' if all can."""
        now = self.clock()
        words = []
        for name, account in self.accounts.items():
            if account.stopped:
                words.append(f"{name} stopped")
            elif account.paused_until > now:
                until = time.strftime("%H:%M:%S", time.localtime(account.paused_until))
                words.append(f"{name} {account.why} paused until {until}")
        return ", ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")

    def _account(self, name: str, now: float) -> _Account:
        account = self.accounts.setdefault(name, _Account(tokens=self.pace.burst, filled_at=now))
        account.heard_at = now
        return account

    @staticmethod
    def _goes_on(account: _Account, now: float) -> bool:
        return not account.stopped and now - account.heard_at < SILENT_S

    def _ready_at(self, account: _Account, now: float) -> float:
        """Fill the bucket; return when the identity may ask, `now` if at once."""
        per_s = self.pace.per_hour / 3600
        account.tokens = min(self.pace.burst, account.tokens + (now - account.filled_at) * per_s)
        account.filled_at = now
        token_at = now + max(0.0, 1 - 1e-9 - account.tokens) / per_s
        tested_at = now + LOOK_S if account.tested_until > now else now
        return max(token_at, account.not_before, account.paused_until, tested_at)

    @staticmethod
    def _count(account: _Account, what: str) -> None:
        account.counts[what] = account.counts.get(what, 0) + 1

"""Whose fault a failure is: the clip's, the identity's, or the environment's; and what follows."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from audio_barlow_twins.ingest.errors import (
    BotCheck,
    DiskFull,
    Elsewhere,
    EnvironmentFault,
    NetworkTrouble,
    RateLimited,
    Unavailable,
)
from audio_barlow_twins.ingest.sources.clip import Clip
from audio_barlow_twins.ingest.video.download import LONGEST_BACKOFF_S, Downloader, Trail
from audio_barlow_twins.ingest.video.fetcher import Identity, Media
from audio_barlow_twins.ingest.video.governor import Blame, Governor, Lease, Pace
from audio_barlow_twins.ingest.video.options import Videos
from audio_barlow_twins.shards.base.errors import ClipError, UserError

GOOD = "http://site/good"
MEDIA = Media(path="/a.m4a", version="v", format="f")
Site = Callable[[str, str], Media]
"""What the site answers to a page and an identity."""


class Governing:
    """A governor in this process; its clock jumps to where callers want to wait."""

    def __init__(self) -> None:
        self.now = 0.0
        self.governor = Governor(Pace(per_hour=3.6e9, burst=1e6, gap_s=0), lambda: self.now)
        self.calls: list[tuple[Any, ...]] = []

    def call(self, method: Callable[..., Any], *args: Any) -> Any:
        """Call it, and let time pass instead of waiting."""
        self.calls.append((method, *args))
        answer = method(self.governor, *args)
        if method == Governor.lease:
            self.now += answer.wait_s
        return answer

    def verdicts(self) -> list[tuple[str, Blame]]:
        """Return identity and blame of each test that was made."""
        return [call[1:3] for call in self.calls if call[0] == Governor.report_test]


class Run:
    """A downloader whose fetcher asks a function instead of the site."""

    def __init__(self, site: Site, names: tuple[str, ...] = ("a",)) -> None:
        self.site, self.asked, self.governing = site, list[tuple[str, str]](), Governing()
        how = Videos(canary=GOOD, backoff_s=0.001, tries=3)
        identities = [Identity(name=name) for name in names]
        self.downloader = Downloader(how, identities, self.governing, lambda _: self)  # type: ignore[arg-type, return-value]
        self.slept: list[float] = []
        self.downloader.ended.wait = lambda seconds=0.0: bool(self.slept.append(seconds))  # type: ignore[method-assign, func-returns-value, assignment]
        self.trail = Trail()

    def fetch(self, page: str, identity: Identity, folder: Path, whole: bool = False) -> Media:
        """Stand for `VideoFetcher.fetch`."""
        self.asked.append((page, identity.name))
        return self.site(page, identity.name)

    def get(self) -> Media:
        """Get one clip."""
        clip = Clip(key="x", source="audioset", path="http://site/x", origin="x", video=True)
        return self.downloader.get(clip, Path(), self.trail)


def raising(error: Exception, times: int = 10**6, good_too: bool = False) -> Site:
    """Make a site that answers so many times with an error, and to the good video only if told."""
    left = times

    def site(page: str, identity: str) -> Media:
        nonlocal left
        if (page == GOOD and not good_too) or left <= 0:
            return MEDIA
        left -= 1
        raise error

    return site


def test_what_comes_through_is_returned_with_its_trail() -> None:
    run = Run(raising(Unavailable(""), 0))
    assert run.get() == MEDIA
    assert run.trail == Trail(attempts=1, identity="a")


def test_a_clip_that_is_gone_is_asked_for_once() -> None:
    run = Run(raising(Unavailable("Private video")))
    with pytest.raises(Unavailable):
        run.get()
    assert run.asked == [("http://site/x", "a")]


def test_a_way_that_is_down_for_every_clip_is_not_the_clips_fault() -> None:
    run = Run(raising(NetworkTrouble("no route"), 9, good_too=True))
    assert run.get() == MEDIA
    assert run.trail.attempts == 2
    assert run.governing.verdicts() == [("a", Blame.OFFLINE)] * 2
    assert run.governing.now >= 30 + 60


def test_network_trouble_is_tried_again_and_then_the_clips() -> None:
    run = Run(raising(NetworkTrouble("reset"), 2))
    assert run.get() == MEDIA
    assert run.trail.attempts == 3
    run = Run(raising(NetworkTrouble("reset")))
    with pytest.raises(NetworkTrouble):
        run.get()
    assert run.trail.attempts == 3


@pytest.mark.parametrize("fault", [RateLimited("later"), EnvironmentFault("no format")])
def test_a_fault_that_the_good_video_does_not_share_is_the_clips(fault: Exception) -> None:
    run = Run(raising(fault))
    with pytest.raises(ClipError) as caught:
        run.get()
    assert type(caught.value) is fault.if_clip  # type: ignore[attr-defined]
    assert isinstance(caught.value, ClipError)
    assert run.governing.verdicts() == [("a", Blame.CLIP)]


def test_a_limited_identity_pauses_and_the_clip_is_had_later() -> None:
    run = Run(raising(RateLimited("later"), 2, good_too=True))
    assert run.get() == MEDIA
    assert run.governing.verdicts() == [("a", Blame.LIMITED)]
    assert run.governing.now >= 3600
    assert run.trail.attempts == 1


def asking(error: RateLimited | NetworkTrouble, wait_s: float) -> Exception:
    """Make an error of a site that says how long to wait."""
    error.wait_s = wait_s
    return error


@pytest.mark.parametrize("wait_s", [20.0, 7200.0])
def test_a_limited_identity_pauses_for_as_long_as_the_site_asks(wait_s: float) -> None:
    run = Run(raising(asking(RateLimited("later"), wait_s), 2, good_too=True))
    assert run.get() == MEDIA
    assert wait_s <= run.governing.now < wait_s + 10


def test_a_clip_is_not_tried_again_before_the_site_wants() -> None:
    run = Run(raising(asking(NetworkTrouble("503"), 50.0), 2))
    assert run.get() == MEDIA
    assert len(run.slept) == 2
    assert all(50 <= seconds <= 75 for seconds in run.slept)


def test_a_site_cannot_hold_a_clip_for_days() -> None:
    run = Run(raising(asking(NetworkTrouble("503"), 86400.0), 1))
    assert run.get() == MEDIA
    assert max(run.slept) <= 1.5 * LONGEST_BACKOFF_S


def test_an_identity_that_is_offline_pauses_for_as_long_as_the_site_asks() -> None:
    run = Run(raising(asking(NetworkTrouble("503"), 500.0), 4, good_too=True))
    assert run.get() == MEDIA
    assert run.governing.now >= 500


def test_a_limited_identity_leaves_the_clip_to_another_one() -> None:
    def site(page: str, identity: str) -> Media:
        if identity == "a":
            raise RateLimited("later")
        return MEDIA

    run = Run(site, ("a", "b"))
    assert run.get() == MEDIA
    assert run.trail.identity == "b"
    assert run.governing.now < 1


def test_a_bot_check_stops_the_identity_without_a_test_and_the_last_one_the_run() -> None:
    run = Run(raising(BotCheck("Sign in to confirm"), good_too=True), ("a", "b"))
    with pytest.raises(UserError, match=r"no identity is left .*Sign in to confirm"):
        run.get()
    assert [page for page, _ in run.asked] == ["http://site/x"] * 2


def test_a_broken_environment_stops_the_run_with_its_advice() -> None:
    run = Run(raising(EnvironmentFault("pip install deno"), good_too=True))
    with pytest.raises(UserError, match="pip install deno; what is done is kept"):
        run.get()


def test_a_full_disk_stops_the_run_without_a_test() -> None:
    run = Run(raising(DiskFull("the disk is full")))
    with pytest.raises(UserError, match="the disk is full"):
        run.get()
    assert len(run.asked) == 1


def test_a_good_video_that_is_gone_stops_the_run_and_names_the_option() -> None:
    def site(page: str, identity: str) -> Media:
        raise Unavailable("removed") if page == GOOD else EnvironmentFault("no format")

    with pytest.raises(UserError, match=r"known good video .* cannot be had .* --canary"):
        Run(site).get()


def test_a_refusal_is_a_pause_even_if_the_good_video_fails_in_another_way() -> None:
    calls = 0

    def site(page: str, identity: str) -> Media:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RateLimited("later")
        if calls == 2:
            raise EnvironmentFault("no format")
        return MEDIA

    run = Run(site)
    assert run.get() == MEDIA
    assert run.governing.verdicts() == [("a", Blame.LIMITED)]


def test_whoever_waits_for_leave_ends_when_the_downloader_is_closed() -> None:
    run = Run(raising(Unavailable("")))

    run.downloader.close()
    with pytest.raises(InterruptedError):
        run.get()


def test_a_machine_whose_identities_are_stopped_leaves_the_clip_to_another_one() -> None:
    run = Run(raising(BotCheck("Sign in to confirm"), good_too=True), ("a", "b"))
    run.governing.call(Governor.lease, ["another machine"])
    with pytest.raises(Elsewhere):
        run.get()
    assert [identity for _, identity in run.asked] == ["a", "b"]
    assert run.trail.attempts == 0
    run.governing.call(Governor.report_test, "another machine", Blame.REFUSED, "Sign in")
    with pytest.raises(UserError, match="no identity is left"):
        run.get()


class Crowd:
    """A governor that says to wait, and knows how many ask it at the same time."""

    def __init__(self) -> None:
        self.lock, self.asking, self.most, self.calls = threading.Lock(), 0, 0, 0

    def call(self, method: str, *args: Any) -> Lease:
        """Take a while to say that one must wait."""
        with self.lock:
            self.asking, self.calls = self.asking + 1, self.calls + 1
            self.most = max(self.most, self.asking)
        time.sleep(0.002)
        with self.lock:
            self.asking -= 1
        return Lease(wait_s=0.01)


def test_one_thread_of_a_worker_asks_for_leave_and_all_end_when_it_is_closed() -> None:
    crowd = Crowd()
    downloader = Downloader(Videos(canary=GOOD), [Identity(name="a")], crowd)
    clip = Clip(key="x", source="s", path="p", origin="x", video=True)
    begin = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(downloader.get, clip, Path(), Trail()) for _ in range(8)]
        while crowd.calls < 10:
            time.sleep(0.005)
        seconds = time.monotonic() - begin
        downloader.close()
        for each in waiting:
            with pytest.raises(InterruptedError):
                each.result()
    assert crowd.most == 1
    assert crowd.calls <= 2 + seconds / 0.02  # each question takes 2 ms, and a nap 20 ms


def test_options_reach_the_fetcher() -> None:
    seen: list[Videos] = []
    how = Videos(max_mb=7, canary=GOOD)
    run = Run(raising(Unavailable(""), 0))

    def new(options: Videos) -> Run:
        seen.append(options)
        return run

    downloader = Downloader(how, [Identity(name="a")], run.governing, new)  # type: ignore[arg-type]
    clip = Clip(key="x", source="s", path="p", origin="x", video=True)
    downloader.get(clip, Path(), Trail())
    downloader.get(clip, Path(), Trail())
    assert seen == [how]

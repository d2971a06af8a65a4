"""The governor: never more than the pace allows, pauses kept, tests by one alone."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from audio_barlow_twins.ingest.video.governor import SILENT_S, TEST_S, Blame, Governor, Lease, Pace

FREE = Pace(per_hour=3.6e6, burst=1000, gap_s=0, pause_s=3600)


class Clock:
    """A clock that is set by hand, s."""

    def __init__(self) -> None:
        self.time = 1e9

    def __call__(self) -> float:
        return self.time


def lease_times(
    governor: Governor, clock: Clock, names: list[str], n: int
) -> list[tuple[str, float]]:
    """Ask as one caller who always wants to fetch; return who asked and when."""
    begin, found = clock.time, []
    while len(found) < n:
        lease = governor.lease(names)
        if lease.identity:
            found.append((lease.identity, clock.time - begin))
        else:
            assert lease.wait_s > 0
            clock.time += lease.wait_s
    return found


@given(
    per_hour=st.floats(1, 5000),
    burst=st.integers(1, 20),
    gap_s=st.floats(0, 30),
    n_names=st.integers(1, 4),
)
def test_no_hour_holds_more_than_the_pace_and_no_two_are_closer_than_the_gap(
    per_hour: float, burst: int, gap_s: float, n_names: int
) -> None:
    clock, names = Clock(), [f"proxy {i}" for i in range(n_names)]
    pace = Pace(per_hour=per_hour, burst=burst, gap_s=gap_s)
    leases = lease_times(Governor(pace, clock), clock, names, 60)
    for name in names:
        times = [time for who, time in leases if who == name]
        for i, begin in enumerate(times):
            within = sum(begin <= time < begin + 3600 for time in times[i:])
            assert within <= per_hour + burst + 1
        gaps = [b - a for a, b in pairwise(times)]
        assert all(gap >= gap_s - 1e-3 for gap in gaps)


def test_the_pace_is_used_up() -> None:
    clock = Clock()
    leases = lease_times(Governor(Pace(per_hour=300, burst=1, gap_s=0), clock), clock, ["a"], 301)
    assert abs(leases[-1][1] - 3600) < 1


def test_identities_share_the_work() -> None:
    clock = Clock()
    governor = Governor(Pace(per_hour=300, burst=1, gap_s=0), clock)
    leases = lease_times(governor, clock, ["a", "b", "c"], 300)
    counts = [sum(who == name for who, _ in leases) for name in "abc"]
    assert max(counts) - min(counts) <= 1
    assert leases[-1][1] < 3600 / 300 * 101


def test_a_limited_identity_pauses_for_its_hour_and_others_go_on() -> None:
    clock = Clock()
    governor = Governor(FREE, clock)
    assert governor.should_test("a")
    governor.report_test("a", Blame.LIMITED, "try again later")
    assert {who for who, _ in lease_times(governor, clock, ["a", "b"], 20)} == {"b"}
    assert "a is limited, paused until" in governor.describe()
    assert abs(governor.lease(["a"]).wait_s - 3600) < 1
    clock.time += 3601
    assert governor.lease(["a"]).identity == "a"
    assert governor.describe() == ""


def test_one_caller_tests_and_the_others_wait_for_the_verdict() -> None:
    clock = Clock()
    governor = Governor(FREE, clock)
    assert [governor.should_test("a") for _ in range(3)] == [True, False, False]
    assert governor.lease(["a"]).identity == ""
    governor.report_test("a", Blame.CLIP)
    assert governor.lease(["a"]).identity == "a"
    assert governor.should_test("a")


def test_a_test_whose_worker_was_lost_does_not_hold_the_others_for_ever() -> None:
    clock = Clock()
    governor = Governor(FREE, clock)
    governor.should_test("a")
    clock.time += TEST_S + 1
    assert governor.lease(["a"]).identity == "a"


def test_a_bot_check_stops_one_identity_and_the_last_one_stops_the_run() -> None:
    governor = Governor(FREE, Clock())
    governor.report_test("a", Blame.REFUSED, "Sign in")
    assert governor.lease(["a", "b"]).identity == "b"
    governor.report_test("b", Blame.REFUSED, "Sign in")
    assert governor.lease(["a", "b"]).stop == (
        "no identity is left that may ask (a: Sign in; b: Sign in)"
    )


def test_a_broken_environment_stops_everybody_until_the_next_run() -> None:
    governor = Governor(FREE, Clock())
    governor.report_test("a", Blame.ENVIRONMENT, "install deno")
    assert governor.lease(["b"]).stop == "install deno"
    governor.set_pace(FREE)
    assert governor.lease(["b"]).identity == "b"


def test_a_pause_outlives_the_run_that_met_it() -> None:
    governor = Governor(FREE, Clock())
    governor.report_test("a", Blame.LIMITED)
    governor.set_pace(FREE)
    assert governor.lease(["a"]).wait_s > 3000


@given(
    known=st.sets(st.sampled_from("abcdef"), min_size=1),
    stopped=st.sets(st.sampled_from("abcdef")),
    paused=st.sets(st.sampled_from("abcdef")),
)
def test_a_stopped_machine_is_sent_away_only_while_another_one_goes_on(
    known: set[str], stopped: set[str], paused: set[str]
) -> None:
    governor = Governor(FREE, Clock())
    for name in known:
        governor.lease([name])
    for name in paused & known:
        governor.report_test(name, Blame.LIMITED, "later")
    for name in stopped & known:
        governor.report_test(name, Blame.REFUSED, "Sign in")
    for name in known:
        lease = governor.lease([name])
        assert lease.elsewhere == (name in stopped and not known <= stopped)
        assert bool(lease.stop) == (known <= stopped)
        assert bool(lease.identity) == (name not in stopped | paused)


def test_a_machine_with_an_identity_left_is_not_sent_away() -> None:
    governor = Governor(FREE, Clock())
    governor.lease(["here"])
    governor.report_test("a", Blame.REFUSED, "Sign in")
    assert governor.lease(["a", "b"]) == Lease("b")


def test_a_machine_that_went_away_does_not_keep_a_run_of_stopped_ones_going() -> None:
    clock = Clock()
    governor = Governor(FREE, clock)
    governor.lease(["gone"])
    governor.report_test("a", Blame.REFUSED, "Sign in")
    clock.time += SILENT_S - 1
    assert governor.lease(["a"]).elsewhere
    clock.time += 1
    assert "no identity is left" in governor.lease(["a"]).stop


def test_a_new_run_lets_every_stopped_machine_try_again() -> None:
    governor = Governor(FREE, Clock())
    governor.lease(["b"])
    governor.report_test("a", Blame.REFUSED, "Sign in")
    assert governor.lease(["a"]).elsewhere
    governor.set_pace(FREE)
    assert governor.lease(["a"]) == Lease("a")

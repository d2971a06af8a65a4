"""The simulation beside closed forms: pace, Little's law, a site that limits, stopped runs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulate import Simulate, simulate

from audio_barlow_twins.ingest.video.governor import Pace

QUICK = {"gone": 0.0, "limit": 1e9, "shard_clips": 50}


@pytest.mark.parametrize("n_identities", [1, 3, 10])
def test_identities_that_are_never_refused_need_clips_over_identities_times_pace(
    n_identities: int,
) -> None:
    what = Simulate(clips=6000, pace=Pace(per_hour=300), **QUICK)
    found = simulate(what, n_identities)
    closed = 6000 / (n_identities * 300)
    assert found.hours == pytest.approx(closed, rel=0.02, abs=50 / 300)
    assert (found.requests, found.got) == (6000, 6000)
    assert found.paused == 0


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("downloads", [1, 8])
@pytest.mark.parametrize(("answer_s", "spread"), [(0.5, 0.0), (4.0, 0.5), (30.0, 0.5)])
def test_too_few_workers_settle_as_many_clips_as_littles_law_says(
    workers: int, downloads: int, answer_s: float, spread: float
) -> None:
    what = Simulate(
        clips=1000 * workers, pace=Pace(per_hour=1e6, burst=1000, gap_s=0), workers=workers,
        downloads=downloads, answer_s=answer_s, spread=spread, gone=0, limit=1e9, shard_clips=1000,
    )  # fmt: skip
    found = simulate(what, 1)
    assert found.per_hour == pytest.approx(workers * downloads / answer_s * 3600, rel=0.1)
    assert found.idle < 0.1


@settings(max_examples=15)
@given(
    per_hour=st.floats(50, 2000),
    burst=st.integers(1, 20),
    gap_s=st.floats(0, 20),
    shared=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 99),
)
def test_no_identity_ever_exceeds_its_pace(
    per_hour: float, burst: int, gap_s: float, shared: int, seed: int
) -> None:
    pace = Pace(per_hour=per_hour, burst=burst, gap_s=gap_s)
    found = simulate(Simulate(clips=2000, pace=pace, shared=shared, seed=seed, **QUICK), 4)
    assert found.busiest <= per_hour + burst + 1
    if gap_s:
        assert found.busiest <= 3600 / gap_s + 1


def test_proxies_that_all_may_use_share_the_work_without_a_tail() -> None:
    quick = QUICK | {"shard_clips": 1000}
    alone = simulate(Simulate(clips=9000, **quick), 8)
    together = simulate(Simulate(clips=9000, shared=8, workers=8, **quick), 8)
    assert together.hours == pytest.approx(9000 / (8 * 300), rel=0.02)
    assert alone.hours > 1.5 * together.hours  # nine shards, eight machines


def test_a_pace_above_the_sites_limit_costs_an_hour_for_every_quota() -> None:
    # The 301st video of 310 an hour is refused; then an hour's pause, in which the site forgets.
    what = Simulate(
        clips=6000, pace=Pace(per_hour=310, burst=2, gap_s=0, pause_s=3600), limit=300,
        limited_s=3000, gone=0, answer_s=1, spread=0,
    )  # fmt: skip
    found = simulate(what, 1)
    pauses = 6000 / 300 - 1
    assert found.hours == pytest.approx(6000 / 310 + pauses, rel=0.02)
    assert found.paused == pytest.approx(pauses / found.hours, rel=0.02)
    assert found.requests - 6000 == 2 * pauses  # what was refused, and a test with a good video
    assert (found.got, found.refused) == (6000, 0)


def test_clips_that_are_gone_are_requests_and_settled() -> None:
    found = simulate(Simulate(clips=5000, **QUICK | {"gone": 0.2}), 5)
    assert found.got == pytest.approx(4000, abs=100)
    assert found.requests == 5000
    assert found.per_hour == pytest.approx(5 * 300, rel=0.04)


def test_a_bot_check_stops_one_proxy_of_many_and_the_run_goes_on() -> None:
    what = Simulate(clips=6000, shared=20, workers=4, bot_checks=1 / 1500, seed=1, **QUICK)
    found = simulate(what, 20)
    assert found.restarts == 0
    assert 6000 < found.requests <= 6000 + 20
    assert found.hours > 6000 / (20 * 300)


def test_machines_that_are_stopped_give_their_shards_back_and_the_others_make_them() -> None:
    what = Simulate(clips=20_000, bot_checks=1 / 4000, seed=3, **QUICK)
    found = simulate(what, 20)
    stopped = found.requests - 20_000
    assert 0 < stopped < 20
    assert found.restarts == 0
    assert found.given_back >= stopped
    assert found.got == 20_000
    assert 20_000 / (20 * 300) < found.hours < 20_000 / ((20 - stopped) * 300) + 50 / 300


def test_a_run_ends_only_when_every_machine_is_stopped() -> None:
    what = Simulate(clips=3000, bot_checks=1 / 100, restart_s=7200, seed=1, **QUICK)
    found = simulate(what, 5)
    stopped = found.requests - 3000
    assert found.restarts == stopped // 5  # five by five
    assert found.hours > 2 * found.restarts
    assert found.got == 3000


def test_downloads_of_a_slot_ask_one_at_a_time_and_slots_each_for_themselves() -> None:
    def asks(workers: int, downloads: int) -> int:
        what = Simulate(clips=3000, workers=workers, downloads=downloads, **QUICK)
        return simulate(what, 1).asks

    alone = asks(1, 1)
    assert asks(1, 8) == pytest.approx(alone, rel=0.05)
    assert 3 * alone < asks(6, 1) < 7 * alone


def test_a_run_whose_only_identity_is_stopped_lies_until_it_is_started_again() -> None:
    what = Simulate(clips=3000, bot_checks=1 / 500, restart_s=7200, **QUICK)
    found = simulate(what, 1)
    assert found.restarts > 0
    assert found.hours == pytest.approx(3000 / 300 + 2 * found.restarts, rel=0.03)
    assert found.got == 3000


def test_the_same_seed_gives_the_same_days() -> None:
    what = Simulate(clips=2000, limit=250, bot_checks=1e-3, shared=2)
    assert simulate(what, 4) == simulate(what, 4)


def test_the_table_has_a_line_for_every_number_of_identities(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Simulate(clips=500, identities=(1, 5), **QUICK).run()
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["identities", "hours", "videos/h"]
    assert [line.split()[0] for line in lines] == ["1", "5"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"clips": 0}, "at least 1"),
        ({"gone": 1.5}, "from 0 to 1"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_with_what_to_do(wrong: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Simulate(**wrong)

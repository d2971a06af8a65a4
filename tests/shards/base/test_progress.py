"""Progress for people at a terminal and for logs."""

import io
import os
import sys
import termios
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_barlow_twins.shards.base import progress
from audio_barlow_twins.shards.base.progress import (
    Progress,
    progress_line,
    report_progress,
    reporting_to,
    span,
)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a line be due at any time."""
    monkeypatch.setattr(progress, "LINE_S", 0.0)


def line(done: int, total: int, **known: object) -> str:
    """Write the line of 100 s of work."""
    about = {"elapsed": 100.0, "rate": None, "prefix": "ingest", "unit": "clip", "postfix": ""}
    return progress_line(n=done, total=total, **(about | known))  # type: ignore[arg-type]


def test_a_line_says_how_much_how_fast_how_long_and_what_else() -> None:
    assert line(5120, 21203, rate=71.25, postfix="ok=5100, bad_audio=20") == (
        "ingest 5,120 of 21,203 clips (24 %), 71.2 clips/s, 3 min 46 s left, ok=5100, bad_audio=20"
    )


def test_the_last_line_says_how_long_it_took() -> None:
    assert line(250, 250) == "ingest 250 of 250 clips (100 %), 2.5 clips/s, in 1 min 40 s"


def test_before_the_first_clip_no_speed_is_named() -> None:
    assert line(0, 8, prefix="") == "0 of 8 clips (0 %)"


def test_a_slow_source_has_a_speed_too() -> None:
    assert "0.083 clips/s, 11 h 20 min left" in line(10, 3410, rate=1 / 12)


def test_nothing_to_do_is_a_line() -> None:
    assert line(0, 0) == "ingest 0 of 0 clips, in 1 min 40 s"


@given(total=st.integers(1, 10**7), data=st.data())
def test_only_what_is_complete_is_100_percent(total: int, data: st.DataObject) -> None:
    done = data.draw(st.integers(0, total))
    assert ("(100 %)" in line(done, total)) == (done == total)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (226, "3 min 46 s"), (7500, "2 h 5 min"),
     (86400 * 4 + 3600, "4 d 1 h")],
)  # fmt: skip
def test_a_time_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.usefixtures("always")
def test_a_log_gets_whole_lines_and_no_carriage_return(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(3, "clip", "ingest") as bar:
        for _ in range(3):
            bar.update(1)
            bar.show("ok=1")
    text = capsys.readouterr().err
    assert "\r" not in text
    assert text.endswith("\n")
    assert all(each.startswith("ingest ") for each in text.splitlines())
    assert text.splitlines()[-1].startswith("ingest 3 of 3 clips (100 %), ")


def test_between_two_lines_nothing_is_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_S", 3600.0)
    with Progress(9, "clip") as bar:
        for done in range(9):
            bar.move_to(done)
            bar.show(f"ok={done}")
        assert capsys.readouterr().err == ""
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.usefixtures("always")
def test_what_stands_still_is_told_too(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(9, "clip") as bar:
        for _ in range(3):
            bar.show("governor paused")
        text = capsys.readouterr().err
        assert text.count("0 of 9 clips (0 %), governor paused\n") == 3


@given(moves=st.lists(st.integers(0, 1000), min_size=1))
def test_a_bar_stands_where_it_was_moved_last_whether_forward_or_back(moves: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", log := io.StringIO())
        with Progress(1000, "clip") as bar:
            for done in moves:
                bar.move_to(done)
    (last,) = log.getvalue().splitlines()
    assert last.startswith(f"{moves[-1]:,} of 1,000 clips")


def test_a_run_that_fails_says_how_far_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    with suppress(ZeroDivisionError), Progress(9, "clip") as bar:
        bar.update(4)
        raise ZeroDivisionError
    assert capsys.readouterr().err.startswith("4 of 9 clips (44 %)")


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    with open(theirs, "w") as terminal, open(ours, "rb", buffering=0) as screen:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Progress(4, "clip", "ingest") as bar:
            bar.update(3)
            bar.show("ok=3")
        seen = b""
        while not seen.endswith(b"\n"):
            seen += screen.read(1 << 16)
    text = seen.decode()
    assert "\ringest:  75%|" in text
    assert "| 3/4 [" in text
    assert "ok=3" in text


def test_what_a_task_reports_is_added_up_only_where_somebody_waits_for_it() -> None:
    told: list[int] = []
    report_progress(1)
    with reporting_to(told.append):
        report_progress(2)
        report_progress(3)
    report_progress(4)
    assert told == [2, 3]

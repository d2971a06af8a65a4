"""The page while a run goes on: there early, in step with the shards, never in the run's way."""

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import find_browser
from test_ingest_report import lost, noise, ok, text_of, write_sets
from waiting import HANG_S

from audio_barlow_twins.ingest.report import live, tally
from audio_barlow_twins.ingest.report.live import live_report, pause_after
from audio_barlow_twins.ingest.report.report import Page, write_report
from audio_barlow_twins.ingest.stage.runlog import write_plan
from audio_barlow_twins.shards.stored.shardset import open_shards
from audio_barlow_twins.shards.stored.writer import shard_name

REFRESH = '<meta http-equiv="refresh" content="60">'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make three shards of two clips and a supplement of the first."""
    shards = {
        shard_name(i): [ok(f"a{i}", noise(0.1, i)), lost(f"b{i}", "network", "HTTP Error 503")]
        for i in range(3)
    }
    shards[shard_name(0, 1)] = [ok("b0", noise(0.1, 9), attempts=2)]
    return write_sets(tmp_path_factory.mktemp("made"), shards)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Begin a run of six clips."""
    write_plan(tmp_path, {"source": "s", "clips": 6, "shards": 3})
    return tmp_path


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a page follow the other."""
    monkeypatch.setattr(live, "EVERY_S", 0.05)
    monkeypatch.setattr(live, "SHARE", 1.0)


def finish(made: Path, out: Path, name: str, kinds: tuple[str, ...] = ("wave", "logmel")) -> None:
    """Commit a shard to a set, as a worker does: tar, then sidecar."""
    for kind in kinds:
        (out / kind).mkdir(exist_ok=True)
        for ending in ("tar", "parquet"):
            scratch = out / kind / f".{name}.tmp"
            shutil.copyfile(made / kind / f"{name}.{ending}", scratch)
            scratch.replace(out / kind / f"{name}.{ending}")


def wait_for(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANG_S
    while not found():
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.01)


def says(out: Path, text: str) -> bool:
    """Tell whether the page is there and says it."""
    return (out / "ingest.html").exists() and text in text_of(out / "ingest.html")


@pytest.mark.usefixtures("often")
def test_the_page_follows_the_run_and_says_at_its_end_no_more_that_it_goes_on(
    made: Path, out: Path
) -> None:
    with live_report(out):
        for done in (1, 2, 3):
            finish(made, out, shard_name(done - 1))
            going_on = f"The run is going on: {2 * done} of 6 clips, updated 2"
            wait_for(lambda: says(out, going_on))  # noqa: B023
            assert REFRESH in (out / "ingest.html").read_text()
    assert not says(out, "going on")
    page = (out / "ingest.html").read_bytes()
    assert REFRESH.encode() not in page
    assert write_report(out).read_bytes() == page


@pytest.mark.usefixtures("often")
def test_before_the_first_shard_there_is_no_page(
    out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen = 0

    class Watched(Page):
        def read(self) -> Iterator[None]:
            nonlocal seen
            seen += 1
            yield from super().read()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "Page", Watched)
        with live_report(out):
            wait_for(lambda: seen > 2)
    assert [path.name for path in out.iterdir()] == ["ingest.json"]
    assert caplog.text == ""


@pytest.mark.usefixtures("often")
def test_a_run_that_is_stopped_leaves_a_page_that_says_so(made: Path, out: Path) -> None:
    with pytest.raises(KeyboardInterrupt), live_report(out):  # noqa: PT012
        finish(made, out, shard_name(0))
        wait_for(lambda: says(out, "going on"))
        raise KeyboardInterrupt
    assert says(out, "The run has stopped: 2 of 6 clips; the same command goes on.")
    assert REFRESH not in (out / "ingest.html").read_text()


def test_a_short_run_writes_no_page_on_its_way(made: Path, out: Path) -> None:
    with live_report(out):
        finish(made, out, shard_name(0))
    assert not (out / "ingest.html").exists()


@pytest.mark.usefixtures("often")
def test_a_shard_that_is_being_written_does_not_disturb(made: Path, out: Path) -> None:
    finish(made, out, shard_name(0))
    finish(made, out, shard_name(1), ("logmel",))  # its waves are on their way:
    (out / "wave" / f"{shard_name(1)}.tar").write_bytes(b"half a tar")
    (out / "wave" / f".{shard_name(1)}.parquet.tmp").write_bytes(b"half a sidecar")
    (out / "ingest.jsonl").write_text('{"at": "2026-')
    with live_report(out):
        wait_for(lambda: says(out, "going on: 4 of 6 clips"))


@pytest.mark.usefixtures("often")
def test_what_keeps_the_page_from_being_written_does_not_stop_the_run(
    made: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    finish(made, out, shard_name(0))
    damaged = out / "wave" / f"{shard_name(0)}.parquet"
    damaged.write_bytes(b"no sidecar")
    with caplog.at_level(logging.WARNING), live_report(out):
        wait_for(lambda: "ingest.html is not up to date" in caplog.text)
        finish(made, out, shard_name(0))
        wait_for(lambda: says(out, "going on: 2 of 6 clips"))
    assert f"{damaged} is not a readable sidecar" in caplog.text


def test_no_sidecar_is_read_twice_but_those_of_a_shard_with_a_new_supplement(
    made: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counting(path: Path) -> object:
        read.append(f"{path.parent.name} {path.stem}")
        return real(path)

    real = tally._read
    monkeypatch.setattr(tally, "_read", counting)
    page = Page(out)
    for names in ([0], [0, 1], [0, 1, 2]):
        finish(made, out, shard_name(names[-1]))
        assert len(list(page.read())) == 2
        assert page.write(going_on=True).exists()
    assert sorted(read) == sorted(
        f"{k} {shard_name(i)}" for k in ("wave", "logmel") for i in range(3)
    )
    read.clear()
    finish(made, out, shard_name(0, 1))
    assert len(list(page.read())) == 2
    assert read == [f"{k} {shard_name(0, r)}" for k in ("wave", "logmel") for r in (0, 1)]
    assert page.write().read_bytes() == write_report(out).read_bytes()


def test_reading_that_was_broken_off_goes_on_where_it_was(made: Path, out: Path) -> None:
    for i in range(3):
        finish(made, out, shard_name(i))
    page = Page(out)
    for n, _ in enumerate(page.read()):
        if n == 1:
            break
    assert len(list(page.read())) == 4
    assert page.write().read_bytes() == write_report(out).read_bytes()


def test_pages_that_take_long_are_written_rarely() -> None:
    assert pause_after(0.1) == 60
    for took in np.linspace(1, 1000):
        assert took / (took + pause_after(took)) <= 0.05 + 1e-9


def test_the_fingerprint_on_the_page_is_that_of_the_set(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "made")
    page = write_report(tmp_path / "made")
    for kind in ("wave", "logmel"):
        assert open_shards(made / kind).fingerprint in text_of(page)


def test_a_browser_shows_a_page_that_goes_on_and_finds_nothing_wrong(
    made: Path, out: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    finish(made, out, shard_name(0))
    page = Page(out)
    list(page.read())
    dom, console = find_browser(tmp_path_factory.mktemp("browser")).dom(page.write(going_on=True))
    assert "The run is going on: 2 of 6 clips" in dom
    assert console == []

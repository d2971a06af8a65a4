"""Whatever a site sends for one clip, that clip alone has the row, and all others are committed."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_site import PLUGIN, LocalSite

from audio_barlow_twins.ingest.errors import (
    LONGEST_WAIT_S,
    EnvironmentFault,
    IdentityFault,
    NetworkTrouble,
    RateLimited,
    asked_wait_s,
)
from audio_barlow_twins.ingest.sources.lists.videos import VideoList
from audio_barlow_twins.ingest.stage.plan import Plan
from audio_barlow_twins.ingest.stage.stage import Job, ingest_shard
from audio_barlow_twins.ingest.video import options
from audio_barlow_twins.ingest.video.fetcher import Identity, VideoFetcher
from audio_barlow_twins.ingest.video.governor import Governor, Pace
from audio_barlow_twins.ingest.video.options import Videos
from audio_barlow_twins.shards.base.errors import ClipError
from audio_barlow_twins.shards.decode.cut import DecodeLimits
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.sidecar import Row, read_rows

ME = Identity(name="me")
OK = "200 OK"
ANSWERS = {
    "to a file": ("302 Found", "Location: file:///etc/passwd"),
    "to ftp": ("302 Found", "Location: ftp://127.0.0.1:1/x"),
    "to data": ("302 Found", "Location: data:audio/wav,x"),
    "to nowhere": ("302 Found",),
    "to no port": ("302 Found", "Location: http://127.0.0.1:99999/x"),
    "to no host": ("302 Found", "Location: http://[::1/x"),
    "to no name": ("302 Found", f"Location: http://{'a' * 70}.x/"),
    "to a closed port": ("302 Found", "Location: http://127.0.0.1:9/x"),
    "to itself": ("302 Found", "Location: {url}"),
    "no number": ("abc",),
    "teapot": ("418 I'm a teapot",),
    "unchanged": ("304 Not Modified",),
    "unauthorized": ("401 Unauthorized",),
    "length in words": (OK, "Content-Length: many"),
    "length below zero": (OK, "Content-Length: -5"),
    "length beyond numbers": (OK, f"Content-Length: {'9' * 30}"),
    "headers": (OK, *[f"X-{n}: y" for n in range(300)]),
    "long header": (OK, f"X: {'y' * 70_000}"),
    "chunks": (OK, "Transfer-Encoding: chunked"),
    "gzip": (OK, "Content-Encoding: gzip", "Content-Length: 5"),
    "range in words": ("206 Partial Content", "Content-Range: bytes x-y/z", "Content-Length: 5"),
    "cookie": (OK, "Set-Cookie: \x00\xff=;;;=", "Content-Length: 5"),
    "silence": (),
}


def raw(site: LocalSite, name: str, answer: tuple[str, ...]) -> str:
    """Write an answer; one that leads to itself names its own address."""
    head = "".join(f"{line}\r\n" for line in answer).replace(
        "{url}", f"{site.url}/media/{name}.m4a"
    )
    return f"HTTP/1.1 {head}\r\nhello" if answer else ""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSite]:
    """Serve the local site, with its extractor on the path of every process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PLUGIN)
        patch.setattr(options, "SOCKET_TIMEOUT_S", 1.0)
        with LocalSite(tmp_path_factory.mktemp("site"), seconds=10) as site:
            yield site


@pytest.fixture(scope="module")
def fetcher(site: LocalSite) -> Iterator[VideoFetcher]:
    """Return one that many tests use, as a run does."""
    with VideoFetcher(Videos(timeout_s=60)) as fetcher:
        yield fetcher


@pytest.mark.parametrize("step", ["page", "media"])
@pytest.mark.parametrize("name", ANSWERS)
def test_no_answer_of_the_site_is_taken_for_a_bug_of_ours(
    site: LocalSite, fetcher: VideoFetcher, tmp_path: Path, name: str, step: str
) -> None:
    key = f"{step}-{name.replace(' ', '-')}"
    page = site.add(key, kind=f"{step}_raw", raw=raw(site, key, ANSWERS[name]))
    with pytest.raises((ClipError, IdentityFault, EnvironmentFault)) as told:
        fetcher.fetch(page, ME, tmp_path)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize(
    "about",
    [{"kind": "page_429"}, {"kind": "media_429"}, {"kind": "page_503"}, {"kind": "media_503"}],
)
def test_the_wait_that_a_site_asks_for_arrives(
    site: LocalSite, fetcher: VideoFetcher, tmp_path: Path, about: dict[str, str]
) -> None:
    with pytest.raises((RateLimited, NetworkTrouble)) as told:
        fetcher.fetch(site.add("waiting", wait="123", **about), ME, tmp_path)
    assert told.value.wait_s == 123


class Here:
    """A governor in this process, as a handle."""

    def __init__(self) -> None:
        self.governor = Governor(Pace(per_hour=3.6e9, burst=1e6, gap_s=0))

    def call(self, method: Callable[..., Any], *args: Any) -> Any:
        """Call it."""
        return method(self.governor, *args)


def ingest_list(site: LocalSite, folder: Path, text: str, **how: Any) -> list[Row]:
    """Make one shard of a list of videos of the site, in this process; return its rows."""
    (folder / "list.csv").write_text(text)
    page = site.page("")
    fields: dict[str, Any] = {"id_field": "1", "start_field": "2", "length_s": 2.0, "page": page}
    clips = VideoList(lists=(folder / "list.csv",), **fields).clips()
    job = Job(
        out=folder / "out",
        front_end=FrontEnd(),
        limits=DecodeLimits(),
        at_once=2,
        videos=Videos(canary="a-good-video", tries=1, backoff_s=0.01, **how).at(page),
        governor=Here(),  # type: ignore[arg-type]
    )
    (shard,) = Plan("videos", clips, 100)
    ingest_shard((job, shard))
    return read_rows(folder / "out" / "wave" / "shard-000000.parquet")


def test_clips_with_odd_answers_and_odd_times_are_rows_among_good_ones(
    site: LocalSite, tmp_path: Path
) -> None:
    names = ["to a file", "length in words", "to itself", "teapot"]
    for number, name in enumerate(names):
        key = f"odd{number}"
        site.add(key, kind="media_raw", raw=raw(site, key, ANSWERS[name]))
    odd = "".join(f"odd{number},1\n" for number in range(len(names)))
    rows = ingest_list(site, tmp_path, f"good1,1\n{odd}timeless,inf\nendless,1e300\ngood2,3.5\n")
    assert [row.failure for row in rows] == [
        None, "extractor", "extractor", "extractor", "extractor", "bad_entry", "bad_entry", None
    ]  # fmt: skip
    assert all(row.message for row in rows if row.failure)
    assert "its start is 'inf'" in rows[5].message


def test_a_section_that_drips_is_given_up_and_so_is_the_whole(
    site: LocalSite, tmp_path: Path
) -> None:
    site.add("dripping", kind="drip")
    rows = ingest_list(site, tmp_path, "dripping,1\n", section_mb=0.001, timeout_s=2.0)
    assert [row.failure for row in rows] == ["network"]
    assert "took longer than 2 s" in rows[0].message


@pytest.mark.parametrize("seconds", [0, 5, 3600, 86400, 10**30])
def test_a_wait_in_seconds(seconds: int) -> None:
    assert asked_wait_s(f" {seconds} ") == min(seconds, LONGEST_WAIT_S)


@pytest.mark.parametrize("seconds", [-(10**7), 0, 600, 10**7])
def test_a_wait_until_a_date(seconds: int) -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    assert abs(asked_wait_s(until) - min(max(seconds, 0), LONGEST_WAIT_S)) < 30


@given(st.none() | st.text())
def test_any_other_wait_is_bounded(header: str | None) -> None:
    assert 0 <= asked_wait_s(header) <= LONGEST_WAIT_S

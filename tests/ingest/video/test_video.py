"""Fetching from the local site with the real yt-dlp: every way to succeed and to fail."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import local_site
import numpy as np
import pytest
from local_site import PLUGIN, SAID, LocalSite

from audio_barlow_twins.ingest.errors import (
    AgeRestricted,
    BotCheck,
    EnvironmentFault,
    GeoBlocked,
    NetworkTrouble,
    NotYet,
    RateLimited,
    Restricted,
    Unavailable,
)
from audio_barlow_twins.ingest.video import options
from audio_barlow_twins.ingest.video.fetcher import (
    Identity,
    VideoFetcher,
    require_runtime,
)
from audio_barlow_twins.ingest.video.options import Videos
from audio_barlow_twins.shards.decode.errors import BadAudio
from audio_barlow_twins.shards.decode.ffmpeg import ffmpeg_path

ME = Identity(name="me")
SECONDS = 10
OPTIONS = Videos(timeout_s=60)
OUTCOMES: dict[type[Exception], str] = {
    Unavailable: "private removed terminated copyright unavailable page_404 page_410",
    AgeRestricted: "age_restricted",
    GeoBlocked: "geo",
    Restricted: "members premium drm subscriber_only premium_only trailer",
    NotYet: "live_soon premiere live post_live",
    BotCheck: "bot_check",
    RateLimited: "rate_limited page_429 page_403 media_429 media_403 empty",
    NetworkTrouble: "page_503 media_503 media_404 page_hang media_hang cut truncated",
    EnvironmentFault: "no_format reworded unexpected crash missing_key no_player",
    BadAudio: "silent",
}
PARENT = """
import os, sys, threading, time
from pathlib import Path
from audio_barlow_twins.ingest.video.fetcher import Identity, VideoFetcher
from audio_barlow_twins.ingest.video.options import Videos
page, folder, how = sys.argv[1:]
fetcher = VideoFetcher(Videos(timeout_s=100))
def tell():
    while fetcher._process is None or not list(Path(folder).iterdir()):
        time.sleep(0.05)
    if how == "a pipe held by another" and os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    print(fetcher._process.pid, flush=True)
threading.Thread(target=tell, daemon=True).start()
fetcher.fetch(page, Identity(name="me"), Path(folder))
"""


def read_page(fetcher: VideoFetcher, page: str, identity: Identity) -> None:
    """Fetch a video for what comes of the request alone."""
    with tempfile.TemporaryDirectory() as folder:
        fetcher.fetch(page, identity, Path(folder))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSite]:
    """Serve the local site, with its extractor on the path of every process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PLUGIN)
        patch.setattr(options, "SOCKET_TIMEOUT_S", 1.0)
        with LocalSite(tmp_path_factory.mktemp("site"), seconds=SECONDS) as site:
            yield site


@pytest.fixture(scope="module")
def fetcher(site: LocalSite) -> Iterator[VideoFetcher]:
    """Return one that many tests use, as a run does."""
    with VideoFetcher(OPTIONS) as fetcher:
        yield fetcher


def is_gone(group: int, within_s: float = 0.0) -> bool:
    """Say whether no process of a group is left, but for those that nobody has waited for."""
    end = time.monotonic() + within_s
    while True:
        out = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True).stdout
        states = [line.split()[1] for line in out.splitlines() if int(line.split()[0]) == group]
        if all(state.startswith("Z") for state in states):
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.1)


def group_of(fetcher: VideoFetcher) -> int:
    """Return the process group of a fetcher that is at work."""
    assert fetcher._process
    return fetcher._process.pid


@pytest.mark.parametrize(
    ("fault", "kind"), [(fault, kind) for fault in OUTCOMES for kind in OUTCOMES[fault].split()]
)
def test_every_failure_of_the_site_has_its_class(
    site: LocalSite, fetcher: VideoFetcher, tmp_path: Path, kind: str, fault: type[Exception]
) -> None:
    with pytest.raises(fault) as told:
        fetcher.fetch(site.add(kind, kind=kind), ME, tmp_path)
    assert type(told.value) is fault
    assert str(told.value)


def test_every_message_of_the_site_is_tried() -> None:
    assert SAID.keys() <= set(" ".join(OUTCOMES.values()).split())


@pytest.mark.parametrize("container", ["m4a", "webm", "mp4"])
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("length_known", [True, False])
def test_a_good_video_arrives_byte_for_byte(
    site: LocalSite,
    fetcher: VideoFetcher,
    tmp_path: Path,
    container: str,
    ranges: bool,
    length_known: bool,
) -> None:
    page = site.add("-good", container=container, ranges=ranges, length_known=length_known)
    media = fetcher.fetch(page, ME, tmp_path)
    assert Path(media.path).parent == tmp_path
    assert Path(media.path).read_bytes() == site.files[container].read_bytes()
    assert container in media.format
    assert media.version.startswith("yt-dlp 20")


@pytest.mark.parametrize("container", ["m4a", "webm", "mp4"])
def test_the_pitch_of_the_sites_sound_tells_the_time(site: LocalSite, container: str) -> None:
    command = [ffmpeg_path(), "-v", "error", "-ss", "6", "-i", site.files[container]]
    raw = subprocess.run([*command, "-f", "f32le", "-ar", "8000", "-"], capture_output=True)
    wave = np.frombuffer(raw.stdout[: 4 * 8000], np.float32)
    assert abs(np.abs(np.fft.rfft(wave * np.hanning(8000))).argmax() - (200 + 40 * 6.5)) < 25


@pytest.mark.parametrize("about", [{}, {"claimed": 0}, {"claimed": 0, "length_known": False}])
def test_a_file_above_the_limit_is_not_stored(
    site: LocalSite, tmp_path: Path, about: dict[str, int]
) -> None:
    page = site.add("large", **about)
    with VideoFetcher(Videos(max_mb=0.01)) as fetcher, pytest.raises(BadAudio) as told:
        fetcher.fetch(page, ME, tmp_path)
    assert "more than 10000" in str(told.value)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 20_000


def test_html_in_place_of_sound_is_left_to_the_decoder(
    site: LocalSite, fetcher: VideoFetcher, tmp_path: Path
) -> None:
    media = fetcher.fetch(site.add("page", kind="html"), ME, tmp_path)
    assert Path(media.path).read_bytes().startswith(b"<!doctype html>")


def test_a_large_file_is_left_where_a_section_can_be_read(site: LocalSite, tmp_path: Path) -> None:
    page = site.add("sectioned")
    with VideoFetcher(Videos(section_mb=0.001)) as fetcher:
        section = fetcher.fetch(page, ME, tmp_path)
        whole = fetcher.fetch(page, ME, tmp_path, whole=True)
    assert section.path == ""
    request = urllib.request.Request(section.url, headers=section.headers | {"Range": "bytes=5-9"})
    with urllib.request.urlopen(request) as reply:
        assert reply.read() == site.files["m4a"].read_bytes()[5:10]
    assert Path(whole.path).read_bytes() == site.files["m4a"].read_bytes()


def test_a_folder_that_cannot_be_written_stops_the_job(
    site: LocalSite, fetcher: VideoFetcher, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeError, match=r"NotADirectoryError|FileExistsError"):
        fetcher.fetch(site.page("homeless"), ME, tmp_path / "file")


def test_a_failure_is_not_hammered(site: LocalSite, fetcher: VideoFetcher, tmp_path: Path) -> None:
    with pytest.raises(NetworkTrouble):
        fetcher.fetch(site.add("hammered", kind="media_503"), ME, tmp_path)
    assert site.pages["hammered"] == 1
    assert site.media["hammered"] <= 2


@pytest.mark.parametrize("kind", ["drip", "page_hang"])
def test_what_takes_too_long_is_killed(
    site: LocalSite, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "SOCKET_TIMEOUT_S", 20.0)
    with VideoFetcher(Videos(timeout_s=2)) as fetcher:
        read_page(fetcher, site.page("warm"), ME)
        group, begin = group_of(fetcher), time.monotonic()
        with pytest.raises(NetworkTrouble, match="longer than 2 s"):
            fetcher.fetch(site.add(f"slow-{kind}", kind=kind), ME, tmp_path)
        assert time.monotonic() - begin < options.SOCKET_TIMEOUT_S
        assert is_gone(group)
        assert fetcher.fetch(site.page("after"), ME, tmp_path).path


@pytest.mark.parametrize("how", ["a pipe of its own", "a pipe held by another"])
def test_the_downloader_ends_when_its_parent_is_killed(
    site: LocalSite, tmp_path: Path, how: str
) -> None:
    arguments = [site.add("orphan", kind="drip"), str(tmp_path), how]
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, *arguments], stdout=subprocess.PIPE, start_new_session=True
    ) as parent:
        assert parent.stdout
        group = int(parent.stdout.readline())
        assert not is_gone(group)
        parent.kill()
        parent.wait()
        assert is_gone(group, within_s=5)
        if how == "a pipe held by another":
            os.killpg(parent.pid, signal.SIGKILL)


def test_closing_leaves_no_process(site: LocalSite) -> None:
    with VideoFetcher(OPTIONS) as fetcher:
        read_page(fetcher, site.page("closed"), ME)
        group = group_of(fetcher)
    assert is_gone(group)


def test_a_kill_from_outside_is_trouble_and_the_next_video_works(
    site: LocalSite, fetcher: VideoFetcher, tmp_path: Path
) -> None:
    read_page(fetcher, site.page("one"), ME)
    os.kill(group_of(fetcher), signal.SIGKILL)
    with pytest.raises(NetworkTrouble, match="killed from outside"):
        read_page(fetcher, site.page("two"), ME)
    assert fetcher.fetch(site.page("three"), ME, tmp_path).path


def test_any_other_death_stops_the_job_with_its_last_words(
    site: LocalSite, fetcher: VideoFetcher
) -> None:
    read_page(fetcher, site.page("one"), ME)
    os.kill(group_of(fetcher), signal.SIGABRT)
    with pytest.raises(RuntimeError, match="ended with code -6"):
        read_page(fetcher, site.page("two"), ME)


def cookie_file(path: Path, name: str) -> Path:
    """Write a cookie file in Netscape's format."""
    lines = ["# Netscape HTTP Cookie File", f"127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\t{name}\n"]
    path.write_text("\n".join(lines))
    return path


def test_cookies_are_sent_and_their_file_stays_as_it_is(
    site: LocalSite, fetcher: VideoFetcher, tmp_path: Path
) -> None:
    path = cookie_file(tmp_path / "cookies.txt", "anna")
    before = path.read_bytes()
    for name in ("first", "second"):
        read_page(fetcher, site.page(name), Identity(name="anna", cookies=str(path)))
    assert site.identities["cookie anna"] == 2
    assert "visited=yes" in site.seen[-1]["cookie"]
    read_page(fetcher, site.page("third"), ME)
    assert "session" not in site.seen[-1].get("cookie", "")
    assert path.read_bytes() == before


def test_a_member_may_see_what_is_for_members(
    site: LocalSite, fetcher: VideoFetcher, tmp_path: Path
) -> None:
    cookies = cookie_file(tmp_path / "cookies.txt", "member")
    member = Identity(name="member", cookies=str(cookies))
    page = site.add("for-members", kind="subscriber_only")
    assert fetcher.fetch(page, member, tmp_path).path


def test_pages_and_media_go_through_the_proxy(
    site: LocalSite, fetcher: VideoFetcher, tmp_path: Path
) -> None:
    proxied = Identity(name="p", proxy=site.proxy("paul"))
    assert fetcher.fetch(site.page("proxied"), proxied, tmp_path).path
    assert site.identities["proxy paul"] == 1
    asked = [each["path"] for each in site.seen if "proxied" in each["path"]]
    assert len(asked) == 2
    assert all(path.startswith("http://") for path in asked)


def test_extractor_arguments_arrive(site: LocalSite) -> None:
    videos = Videos(extractor_args=("localsite:flavour=mint;other=x", "youtube:lang=de"))
    with VideoFetcher(videos) as fetcher:
        read_page(fetcher, site.page("flavoured"), ME)
    assert any(each["path"].endswith("flavour=mint") for each in list(site.seen)[-2:])


@pytest.mark.parametrize(
    ("videos", "cookies"),
    [
        (Videos(extractor_args=("nonsense",)), None),
        (Videos(), "absent"),
        (Videos(), "{}"),
    ],
    ids=["extractor_args", "no cookies", "JSON cookies"],
)
def test_bad_settings_stop_the_run(
    site: LocalSite, tmp_path: Path, videos: Videos, cookies: str | None
) -> None:
    path = tmp_path / "cookies.txt"
    if cookies == "{}":
        path.write_text(cookies)
    with VideoFetcher(videos) as fetcher, pytest.raises(EnvironmentFault, match="correct the"):
        read_page(fetcher, site.page("x"), Identity(name="x", cookies=str(path) if cookies else ""))


def test_a_bad_choice_of_formats_stops_the_run(
    site: LocalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "FORMAT", "best[[[")
    with VideoFetcher(Videos()) as fetcher, pytest.raises(EnvironmentFault, match="correct the"):
        read_page(fetcher, site.page("x"), ME)


def test_an_identity_is_limited_alone_and_for_a_while(
    site: LocalSite, fetcher: VideoFetcher
) -> None:
    site.change(limit_after=2, limit_s=0.5)
    busy, other = (Identity(name=name, proxy=site.proxy(name)) for name in ("busy", "other"))
    try:
        for _ in range(2):
            read_page(fetcher, site.page("a"), busy)
        for _ in range(2):
            with pytest.raises(RateLimited):
                read_page(fetcher, site.page("a"), busy)
        read_page(fetcher, site.page("a"), other)
        time.sleep(0.6)
        read_page(fetcher, site.page("a"), busy)
    finally:
        site.change(limit_after=0)
    assert site.refused["proxy busy"] == 2


def test_the_site_can_take_an_identity_for_a_robot(site: LocalSite, fetcher: VideoFetcher) -> None:
    site.change(bots=["proxy robot"])
    with pytest.raises(BotCheck):
        read_page(fetcher, site.page("a"), Identity(name="r", proxy=site.proxy("robot")))
    read_page(fetcher, site.page("a"), ME)


def test_a_video_can_fail_at_first(site: LocalSite, fetcher: VideoFetcher) -> None:
    page = site.add("moody", kind="page_503", first=2)
    for _ in range(2):
        with pytest.raises(NetworkTrouble):
            read_page(fetcher, page, ME)
    read_page(fetcher, page, ME)


def test_the_site_runs_alone_and_is_told_what_to_do(site: LocalSite, tmp_path: Path) -> None:
    script = Path(local_site.__file__)
    with subprocess.Popen(
        [sys.executable, script, tmp_path, "0", "2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        url = process.stdout.readline().decode().strip()
        rules = json.dumps({"broken": True, "videos": {"gone": {"kind": "removed"}}})
        urllib.request.urlopen(f"{url}/control", rules.encode()).close()
        with VideoFetcher(OPTIONS) as fetcher:
            with pytest.raises(EnvironmentFault, match="Requested format"):
                read_page(fetcher, f"{url}/watch?v=any", ME)
            with pytest.raises(Unavailable):
                read_page(fetcher, f"{url}/watch?v=gone", ME)
        with urllib.request.urlopen(f"{url}/control") as reply:
            assert json.load(reply)["pages"] == {"any": 1, "gone": 1}


def test_the_runtime_is_there() -> None:
    require_runtime()


@pytest.mark.parametrize("missing", ["find_spec", "which"])
def test_a_missing_runtime_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(f"audio_barlow_twins.ingest.video.fetcher.{missing}", lambda *_, **__: None)
    with pytest.raises(EnvironmentFault, match=r'pip install .*"yt-dlp\[default,deno\]"'):
        require_runtime()

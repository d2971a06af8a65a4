"""Mirrors behind HTTP: what passes is tried again, what stays is a reason, nothing is believed."""

import io
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from mirror import Mirror

from audio_barlow_twins.ingest.errors import NetworkTrouble, Unreadable
from audio_barlow_twins.ingest.sources.clip import Clip, RowOfTable
from audio_barlow_twins.ingest.sources.remote import archive, client, stream
from audio_barlow_twins.ingest.sources.remote.archive import Archive
from audio_barlow_twins.ingest.sources.remote.open import own_errors
from audio_barlow_twins.ingest.sources.remote.stream import close_stream
from audio_barlow_twins.ingest.sources.tables import table_clips
from audio_barlow_twins.ingest.sources.tars import archive_clips
from audio_barlow_twins.ingest.stage.part import audio_file
from audio_barlow_twins.ingest.stage.plan import Plan
from audio_barlow_twins.ingest.stage.stage import Job, ingest_shard
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.decode.cut import DecodeLimits
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.sidecar import Row, read_rows

CLIPS = 12
LONG = f"http://{'a' * 70}"
"""A name that no host can have."""
PASSING = ["503", "429", "500", "408", "hang up", "cut", "short", "long", "shifted", "unsaid"]
"""Faults that a second request may not meet."""


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between tries, and forget what other tests' servers did."""
    monkeypatch.setattr(client, "PAUSE_S", 0.001)
    monkeypatch.setattr(client, "_not_before", {})
    archive.archive_of.cache_clear()


@pytest.fixture(scope="module")
def tar(tone: Callable[..., np.ndarray]) -> bytes:
    """Write an archive of short tones."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for number in range(CLIPS):
            sound = io.BytesIO()
            soundfile.write(sound, tone(0.2 + number / 100), 16000, format="WAV")
            member = tarfile.TarInfo(f"clip{number:02}.wav")
            member.size = sound.tell()
            sound.seek(0)
            tar.addfile(member, sound)
    return target.getvalue()


@pytest.fixture
def mirror(tar: bytes) -> Iterator[Mirror]:
    """Serve the archive, and a folder that lists it."""
    mirror = Mirror()
    mirror.files = {"/m/a.tar": tar, "/m/": b'<a href="../">up</a> <a href="a.tar">a.tar</a>'}
    with mirror.served():
        yield mirror
        close_stream(f"{mirror.url}/m/a.tar")


def listed(mirror: Mirror) -> list[Clip]:
    """List the clips, and forget what that took."""
    clips = archive_clips((f"{mirror.url}/m/",), "labels", None)
    mirror.asked.clear()
    return clips


def rows_of(clips: list[Clip], out: Path) -> list[Row]:
    """Run the work of one shard here; return its rows."""
    job = Job(out=out, front_end=FrontEnd(), limits=DecodeLimits(), at_once=4)
    (shard,) = Plan("webdataset", clips, 100)
    ingest_shard((job, shard))
    return read_rows(out / "wave" / "shard-000000.parquet")


def content_of(clip: Clip) -> bytes:
    with audio_file(clip) as path:
        return Path(path).read_bytes()


@pytest.mark.parametrize("fault", PASSING)
def test_a_failure_that_passes_changes_nothing(
    mirror: Mirror, tar: bytes, tmp_path: Path, fault: str
) -> None:
    clips = listed(mirror)
    mirror.faults = [fault, "", fault, fault]
    assert [row.status for row in rows_of(clips, tmp_path)] == ["ok"] * CLIPS
    assert len(mirror.asked) > CLIPS


@pytest.mark.parametrize("fault", PASSING)
def test_a_failure_that_stays_is_the_networks_and_stops_no_other_clip(
    mirror: Mirror, tmp_path: Path, fault: str
) -> None:
    clips = listed(mirror)
    mirror.always = fault
    rows = rows_of(clips, tmp_path)
    assert {row.failure for row in rows} == {"network"}
    assert all(f"tried {client.TRIES} times" in row.message for row in rows)


@pytest.mark.parametrize("fault", PASSING)
def test_a_listing_outlasts_what_passes(mirror: Mirror, fault: str) -> None:
    wanted = listed(mirror)
    mirror.faults = [fault, fault, "", fault]
    assert listed(mirror) == wanted


@pytest.mark.parametrize("fault", ["503", "429", "403", "404", "hang up", "to /m/", "to file:///"])
def test_a_listing_that_cannot_be_had_is_one_line(mirror: Mirror, fault: str) -> None:
    mirror.always = fault
    for url in ("/m/", "/m/a.tar", "/m/*.tar"):
        with pytest.raises(UserError, match=r"cannot be (listed|read as a tar)") as told:
            archive_clips((mirror.url + url,), "labels", None)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("fault", ["401", "403", "404", "410"])
def test_an_archive_that_is_closed_is_the_reason_of_its_clips_and_asked_for_once_each(
    mirror: Mirror, tmp_path: Path, fault: str
) -> None:
    clips = listed(mirror)
    mirror.always = fault
    rows = rows_of(clips, tmp_path)
    assert {row.failure for row in rows} == {"unreadable"}
    assert all(f"answered {fault}" in row.message for row in rows)
    assert len(mirror.asked) == CLIPS


@pytest.mark.parametrize(
    "target",
    ["/m/a.tar", "file:///etc/passwd", "ftp://x/", "http://[::1", "http://x:99999/", LONG],
)
def test_a_redirect_that_leads_nowhere_is_a_reason(
    mirror: Mirror, tmp_path: Path, target: str
) -> None:
    clips = listed(mirror)
    mirror.always = f"to {target}"
    rows = rows_of(clips, tmp_path)
    assert {row.failure for row in rows} <= {"unreadable", "network"}
    assert all(row.message for row in rows)


def test_bytes_that_were_not_asked_for_are_never_taken_for_a_clip(
    mirror: Mirror, tar: bytes
) -> None:
    dice = random.Random(0)
    whole = Archive(f"{mirror.url}/m/a.tar")
    for _ in range(60):
        begin, size = dice.randrange(len(tar)), dice.randrange(1, 9000)
        mirror.faults = dice.choices(["", *PASSING], k=3)
        assert whole.read(begin, size) == tar[begin : begin + size]


def test_the_server_is_not_asked_before_it_wants(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(client.time, "sleep", slept.append)
    mirror.faults = ["503 7"]
    assert Archive(f"{mirror.url}/m/a.tar").read(0, 5)
    assert 6 < max(slept) <= 7
    mirror.faults = ["429 99999999"]
    assert Archive(f"{mirror.url}/m/a.tar").read(0, 5)
    assert max(slept) <= client.LONGEST_PAUSE_S


def test_pauses_grow_with_every_try(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(client.time, "sleep", slept.append)
    monkeypatch.setattr(client.random, "uniform", lambda low, high: (low + high) / 2)
    mirror.always = "500"
    with pytest.raises(NetworkTrouble):
        Archive(f"{mirror.url}/m/a.tar").read(0, 5)
    pauses = [each for each in slept if each]
    assert pauses == [client.PAUSE_S * 2**n for n in range(client.TRIES - 1)]


def test_a_server_without_ranges_sends_an_archive_once(mirror: Mirror, tmp_path: Path) -> None:
    mirror.ranges = False
    clips = listed(mirror)
    assert [row.status for row in rows_of(clips, tmp_path)] == ["ok"] * CLIPS
    whole = [each for each in mirror.asked if not each[1]]
    assert len(whole) == 1


def test_without_ranges_every_clip_is_what_the_archive_holds(mirror: Mirror, tar: bytes) -> None:
    mirror.ranges = False
    for clip in listed(mirror):
        assert clip.part
        begin, size = clip.part
        assert content_of(clip) == tar[begin : begin + size]


def test_without_ranges_an_earlier_clip_is_looked_up_or_asked_for_again(
    mirror: Mirror, tar: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.ranges = False
    whole = Archive(f"{mirror.url}/m/a.tar")
    assert whole.read(30_000, 9) == tar[30_000:30_009]
    assert whole.read(100, 9) == tar[100:109]
    assert len(mirror.asked) == 2  # the first one asked for a range
    monkeypatch.setattr(stream, "COPY_BYTES", 1000)
    assert whole.read(90_000, 9) == tar[90_000:90_009]
    assert whole.read(100, 9) == tar[100:109]
    assert len(mirror.asked) == 3


def test_without_ranges_a_broken_answer_begins_anew(mirror: Mirror, tar: bytes) -> None:
    mirror.ranges = False
    mirror.faults = ["", "cut", "503", "hang up"]
    end = len(tar) - 5000
    assert Archive(f"{mirror.url}/m/a.tar").read(end, 5000) == tar[end:]


def test_random_reads_of_a_stream_are_those_of_the_file(
    mirror: Mirror, tar: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "COPY_BYTES", 20_000)
    mirror.ranges = False
    dice, whole = random.Random(1), Archive(f"{mirror.url}/m/a.tar")
    for _ in range(40):
        begin, size = dice.randrange(len(tar) + 100), dice.randrange(30_000)
        assert whole.read(begin, size) == tar[begin : begin + size]


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("change", [b"more", None])
def test_an_archive_that_has_changed_since_it_was_listed_is_a_reason(
    mirror: Mirror, tar: bytes, tmp_path: Path, ranges: bool, change: bytes | None
) -> None:
    mirror.ranges = ranges
    clips = listed(mirror)
    mirror.files["/m/a.tar"] = tar + change if change else tar[:2000]
    rows = rows_of(clips, tmp_path)
    assert {row.failure for row in rows} == {"unreadable"}
    assert all("has changed since it was listed" in row.message for row in rows)


def test_a_table_behind_http_is_read_with_and_without_ranges(
    mirror: Mirror, tone: Callable[..., np.ndarray]
) -> None:
    sound, table = io.BytesIO(), io.BytesIO()
    soundfile.write(sound, tone(0.3), 16000, format="WAV")
    audio = [{"bytes": sound.getvalue(), "path": f"{name}.wav"} for name in "abcdef"]
    pq.write_table(pa.table({"audio": audio}), table, row_group_size=2)
    mirror.files |= {"/t/x.parquet": table.getvalue(), "/t/": b"<A HREF='x.parquet'>x</A>"}
    for mirror.ranges in (True, False):
        clips = table_clips((f"{mirror.url}/t/",), "", "")
        assert [clip.key for clip in clips] == list("abcdef")
        mirror.faults = ["503", "cut"]
        assert {content_of(clip) for clip in clips} == {sound.getvalue()}
    close_stream(f"{mirror.url}/t/x.parquet")


def test_a_table_that_cannot_be_reached_is_the_networks(mirror: Mirror) -> None:
    row = RowOfTable(0, 0, ("audio", "bytes"))
    clip = Clip(key="a", source="p", path=f"{mirror.url}/none", origin="a.wav", row=row)
    with pytest.raises(Unreadable, match="404"):
        content_of(clip)
    mirror.always = "503"
    with pytest.raises(NetworkTrouble, match="503"):
        content_of(clip)


def test_patterns_and_names_find_the_files_of_folders(mirror: Mirror, tar: bytes) -> None:
    mirror.files |= {
        "/w/": b'<a href="?C=N;O=D">N</a><a href="/w/x%201/">x 1</a><a href=y/>y</a>'
        b'<a href="http://elsewhere/z/">z</a><a href="n.txt">n</a>',
        "/w/x%201/": b'<a href="b.tar">b</a><a href="c.tar">c</a>',
        "/w/y/": b'<a href="d.tar?token=1&amp;x=2#top">d</a><a href="/m/a.tar">a</a>',
    }
    names = ["x%201/b.tar", "x%201/c.tar", "y/d.tar?token=1&x=2"]
    for name in names:
        mirror.files[f"/w/{name.split('?')[0]}"] = tar

    def found(url: str) -> list[str]:
        clips = archive_clips((f"{mirror.url}/w/{url}",), "labels", None)
        return list(dict.fromkeys(clip.path.removeprefix(f"{mirror.url}/w/") for clip in clips))

    assert found("x%201/") == found("x%201/*.tar") == found("x*/[bc].tar") == names[:2]
    assert found("y/") == names[2:]
    assert found("x%201/c.tar") == names[1:2]
    assert found("x*/b.tar") == names[:1]
    with pytest.raises(UserError, match="no such tar file"):
        found("z*/*.tar")


@pytest.mark.parametrize("page", ["/p", "/p/", "/p/index.html", "/p/list?sort=name"])
def test_a_page_names_the_files_of_its_folder(mirror: Mirror, tar: bytes, page: str) -> None:
    mirror.files |= {page.split("?")[0]: b'<a href="b.tar">b</a>', "/p/b.tar": tar}
    mirror.pages = {page.split("?")[0]}
    clips = archive_clips((mirror.url + page,), "labels", None)
    assert {clip.path for clip in clips} == {f"{mirror.url}/p/b.tar"}


@pytest.mark.parametrize("ranges", [True, False])
def test_an_answer_that_drips_is_given_up(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, ranges: bool
) -> None:
    monkeypatch.setattr(client, "SILENCE_S", 0.2)
    monkeypatch.setattr(client, "SLOWEST", 10**9)
    mirror.ranges, mirror.always = ranges, "drip"
    with pytest.raises(NetworkTrouble, match="less than 1000000000 bytes a second"):
        Archive(f"{mirror.url}/m/a.tar").read(0, 5000)


def test_an_archive_behind_another_url_fails_in_the_same_two_ways() -> None:
    clip = Clip(key="a", source="w", path="memory://none.tar", origin="a.wav", part=(0, 9))
    with pytest.raises(Unreadable, match="cannot be opened"):
        content_of(clip)
    with pytest.raises(NetworkTrouble), own_errors("s3://bucket/a.tar"):
        raise ConnectionResetError("Connection reset by peer")

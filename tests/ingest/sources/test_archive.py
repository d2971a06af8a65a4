"""Tars of audio as a source: every member found, nothing trusted."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile
import webdataset

from audio_barlow_twins.ingest.sources.clip import Clip
from audio_barlow_twins.ingest.sources.demo.corpus import HERE
from audio_barlow_twins.ingest.sources.tars import archive_clips
from audio_barlow_twins.ingest.stage.part import audio_file
from audio_barlow_twins.ingest.stage.plan import Plan
from audio_barlow_twins.ingest.stage.stage import Job, ingest_shard
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.decode.errors import BadAudio
from audio_barlow_twins.shards.decode.sound import DecodeLimits, decode
from audio_barlow_twins.shards.stored.form import wave_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.sidecar import read_clip, read_rows

BELLS = sorted((HERE / "audio" / "bell").glob("*.opus"))
LIMITS = DecodeLimits()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    """Write members by name, as any tool might."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def clips_of(*urls: Path | str, field: str = "labels", labels: Path | None = None) -> list[Clip]:
    return archive_clips(tuple(map(str, urls)), field, labels)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two tars with webdataset's own writer: real sounds, JSON beside them."""
    folder = tmp_path_factory.mktemp("mirror")
    for number, files in enumerate((BELLS[:4], BELLS[4:])):
        with webdataset.TarWriter(str(folder / f"part-{number}.tar"), encoder=False) as tar:
            for file in files:
                about = json.dumps({"labels": ["bell", file.stem], "title": "Bell"}).encode()
                tar.write({"__key__": file.stem, "json": about, "opus": file.read_bytes()})
    return folder


def test_members_come_in_order_with_the_labels_of_their_json(mirror: Path) -> None:
    clips = clips_of(mirror)
    assert [clip.key for clip in clips] == [file.stem for file in BELLS]
    assert [clip.labels for clip in clips] == [("bell", file.stem) for file in BELLS]
    assert clips[0].origin == f"part-0.tar/{BELLS[0].name}"


def test_the_field_of_the_labels_can_be_chosen_and_may_hold_one(mirror: Path) -> None:
    assert {clip.labels for clip in clips_of(mirror, field="title")} == {("Bell",)}
    assert {clip.labels for clip in clips_of(mirror, field="nothing")} == {()}


def test_labels_of_a_table_replace_those_of_the_json(mirror: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(f"path,labels\n{BELLS[0].stem},a;b\n")
    assert clips_of(mirror, labels=table)[0].labels == ("a", "b")


@pytest.mark.parametrize("how", ["folder", "pattern", "files", "url"])
def test_tars_are_found_by_folder_pattern_name_and_url(mirror: Path, how: str) -> None:
    tars = [mirror / "part-0.tar", mirror / "part-1.tar"]
    given: dict[str, list[Path | str]] = {
        "folder": [mirror],
        "pattern": [mirror / "part-*.tar"],
        "files": [*tars, tars[0]],
        "url": [f"file://{mirror}"],
    }
    assert clips_of(*given[how]) == clips_of(mirror)


def test_the_audio_of_a_clip_is_what_the_member_holds(mirror: Path) -> None:
    for clip, file in zip(clips_of(mirror), BELLS, strict=True):
        with audio_file(clip) as path:
            assert Path(path).read_bytes() == file.read_bytes()
            np.testing.assert_array_equal(decode(path, LIMITS), decode(str(file), LIMITS))
        assert not Path(path).exists()


def test_a_tar_behind_a_url_is_read_like_a_file(mirror: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/bells/part-0.tar", (mirror / "part-0.tar").read_bytes())
    clips = clips_of("memory://bells")
    assert [clip.key for clip in clips] == [file.stem for file in BELLS[:4]]
    with audio_file(clips[1]) as path:
        assert Path(path).read_bytes() == BELLS[1].read_bytes()


def test_our_own_wave_set_comes_back_sample_by_sample(mirror: Path, tmp_path: Path) -> None:
    first = ingest_all(clips_of(mirror), tmp_path / "first")
    second = ingest_all(clips_of(first), tmp_path / "second")
    one, other = (read_rows(folder / "shard-000000.parquet") for folder in (first, second))
    assert [(row.key, row.labels) for row in one] == [(row.key, row.labels) for row in other]
    with (
        (first / "shard-000000.tar").open("rb") as a,
        (second / "shard-000000.tar").open("rb") as b,
    ):
        for row, again in zip(one, other, strict=True):
            wanted, found = read_clip(a, row, wave_form()), read_clip(b, again, wave_form())
            np.testing.assert_array_equal(found, wanted)


def ingest_all(clips: list[Clip], out: Path) -> Path:
    """Run the work of one shard here; return the wave set."""
    job = Job(out=out, front_end=FrontEnd(), limits=LIMITS)
    (shard,) = Plan("webdataset", clips, 100)
    ingest_shard((job, shard))
    return out / "wave"


def test_a_damaged_member_is_a_row_that_reads_the_same_every_time(tmp_path: Path) -> None:
    good = BELLS[0].read_bytes()
    tar = write_tar(tmp_path / "a.tar", {"x.opus": good, "y.opus": b"no opus", "z.opus": b""})
    messages = []
    for name in ("one", "two"):
        rows = read_rows(ingest_all(clips_of(tar), tmp_path / name) / "shard-000000.parquet")
        assert [row.failure for row in rows] == [None, "bad_audio", "bad_audio"]
        messages.append([row.message for row in rows])
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    "name", ["../../escape.wav", "/etc/passwd.wav", "a/./b.wav", "n" * 300 + ".wav", "-x y é.wav"]
)
def test_hostile_names_become_plain_keys_and_touch_no_path(
    name: str, tmp_path: Path, tone: Callable[..., np.ndarray]
) -> None:
    sound = io.BytesIO()
    soundfile.write(sound, tone(0.2), 16000, format="WAV")
    tar = write_tar(tmp_path / "in" / "a.tar", {name: sound.getvalue()})
    (clip,) = clips_of(tar)
    assert set(clip.key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
    assert len(clip.key) <= 91
    ingest_all([clip], tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


@pytest.mark.parametrize("tars", [("0.tar", "1.tar"), ("a/0.tar", "b/0.tar")])
def test_one_name_in_two_tars_gives_two_keys(tars: tuple[str, str], tmp_path: Path) -> None:
    paths = [write_tar(tmp_path / name, {"000001.opus": BELLS[0].read_bytes()}) for name in tars]
    keys = [clip.key for clip in clips_of(*paths)]
    assert len(set(keys)) == 2
    assert all(key.startswith("000001-") for key in keys)


def test_links_and_other_members_are_left_alone(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.txt": b"hello", "b.opus": BELLS[0].read_bytes()})
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("c.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert [clip.key for clip in clips_of(path)] == ["b"]


def test_a_member_too_large_for_a_clip_is_refused_unread(tmp_path: Path) -> None:
    path, part = str(tmp_path / "none.tar"), (0, 2**40)
    clip = Clip(key="a", source="w", path=path, origin="none.tar/a.wav", part=part)
    with pytest.raises(BadAudio, match="bytes inside its archive"), audio_file(clip):
        pass


def test_an_archive_that_changed_since_it_was_listed_stops_the_job(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", {"a.opus": BELLS[0].read_bytes()})
    (clip,) = clips_of(tar)
    tar.write_bytes(tar.read_bytes()[:700])
    with pytest.raises(OSError, match="has changed: it ends inside"), audio_file(clip):
        pass


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no tar at all" * 100, "cannot be read as a tar"),
        (None, "no audio in the tars"),
    ],
)
def test_a_file_that_is_no_tar_of_audio_is_one_line(
    content: bytes | None, reason: str, tmp_path: Path
) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.txt": b"hello"})
    if content:
        path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as caught:
        clips_of(path)
    assert "\n" not in str(caught.value)


def test_json_that_is_none_is_one_line(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.json": b"{", "a.opus": b"x"})
    with pytest.raises(UserError, match="cannot be read as a tar of audio"):
        clips_of(path)


def test_a_url_without_tars_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such tar file"):
        clips_of(tmp_path / "nothing-*.tar")

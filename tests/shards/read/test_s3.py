"""Shard sets on a real S3 server: the same bytes and answers as on a disk, all or nothing."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from making import noise, python, row, small_form, write_set
from s3_server import S3Server

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import remove_scratch, replacing
from audio_barlow_twins.shards.base.place import place
from audio_barlow_twins.shards.derive import Derivation, derive_shard
from audio_barlow_twins.shards.look import Ls, Stats
from audio_barlow_twins.shards.stored.form import wave_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.shardset import open_shards, sidecar_paths
from audio_barlow_twins.shards.stored.sidecar import read_clip, read_rows
from audio_barlow_twins.shards.stored.verify import Finding, verify
from audio_barlow_twins.shards.stored.writer import (
    committed_plans,
    is_committed,
    shard_name,
    writing_shard,
)

FORM = wave_form()
SHARDS = [
    {"a": noise(FORM, 900, 1), "lost": None, "b": noise(FORM, 12_000, 2)},
    {"c": noise(FORM, 20_000, 3)},
]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set on a disk."""
    return write_set(tmp_path_factory.mktemp("local"), FORM, SHARDS)


@pytest.fixture(autouse=True)
def scratch_of_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make scratch files where no other test of this machine makes any."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def remote(s3: S3Server) -> Path:
    """The set as our writer puts it on the server."""
    return write_set(place(f"{s3.url()}/deep/set"), FORM, SHARDS)


def objects(s3: S3Server, folder: Path) -> dict[str, bytes]:
    """Read what lies below a URL with a client of its own."""
    found = s3.client().find(str(folder))
    return {name.rpartition("/")[2]: s3.client().cat_file(name) for name in found}


def begun_uploads(s3: S3Server, folder: Path) -> list[str]:
    bucket = str(folder).removeprefix("s3://").split("/")[0]
    return [upload["Key"] for upload in s3.client().list_multipart_uploads(bucket)]


def upload_scratch(folder: Path) -> set[Path]:
    return set(folder.glob("shards-upload-*"))


def test_a_set_on_s3_equals_the_local_one_byte_for_byte(
    s3: S3Server, local: Path, remote: Path
) -> None:
    assert objects(s3, remote) == {path.name: path.read_bytes() for path in local.iterdir()}
    assert not upload_scratch(Path(tempfile.gettempdir()))


def test_the_index_statistics_and_clips_are_those_of_the_local_set(
    local: Path, remote: Path
) -> None:
    here, there = open_shards(local), open_shards(str(remote))
    assert there.fingerprint == here.fingerprint
    assert there.statistics == here.statistics
    assert there.offsets.tolist() == here.offsets.tolist()
    assert there.n_frames.tolist() == here.n_frames.tolist()
    assert there.keys == here.keys == ["a", "b", "c"]
    with (remote / "shard-000000.tar").open("rb") as tar:
        last = read_rows(remote / "shard-000000.parquet")[2]
        np.testing.assert_array_equal(read_clip(tar, last, FORM), SHARDS[0]["b"])


def test_finished_shards_are_known_as_soon_as_they_are_there(remote: Path) -> None:
    empty = remote.parent / "other"
    assert committed_plans(empty, FORM) == {}
    assert not is_committed(empty, shard_name(0), FORM, "plan")
    with pytest.raises(UserError, match="other does not exist; make it with"):
        sidecar_paths(empty)
    write_set(empty, FORM, SHARDS[1:])
    assert committed_plans(empty, FORM) == {"shard-000000": "plan"}
    assert is_committed(empty, shard_name(0), FORM, "plan")
    with pytest.raises(UserError, match="made from another list of clips"):
        is_committed(empty, shard_name(0), FORM, "other")
    with pytest.raises(UserError, match="holds wave clips, wanted logmel"):
        committed_plans(remote, small_form("logmel"))
    (remote / "shard-000001.tar").unlink()
    assert committed_plans(remote, FORM) == {"shard-000000": "plan"}


def test_an_object_that_was_damaged_cut_or_lost_is_found(s3: S3Server, remote: Path) -> None:
    assert list(verify(remote)) == [[], []]
    tar = remote / "shard-000000.tar"
    content = bytearray(tar.read_bytes())
    content[read_rows(remote / "shard-000000.parquet")[2].offset + 5000] ^= 4
    tar.write_bytes(bytes(content))
    assert [finding for found in verify(remote) for finding in found] == [
        Finding("shard-000000", "b", "the bytes of this clip do not match its checksum")
    ]
    tar.write_bytes(bytes(content[:-2000]))
    (remote / "shard-000001.tar").unlink()
    (first, *_), (second,) = verify(remote)
    assert first.problem.startswith(f"shard-000000.tar has {len(content) - 2000} bytes")
    assert second.problem == "shard-000001.tar is missing"


def test_log_mel_is_derived_from_s3_to_s3_as_on_a_disk(
    s3: S3Server, local: Path, remote: Path, tmp_path: Path
) -> None:
    out = remote.parent / "logmel"
    for source, target in ((local, tmp_path), (remote, out)):
        for path in sidecar_paths(source):
            derive_shard(Derivation(path, target, "plan", FrontEnd()))
    assert objects(s3, out) == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_the_commands_take_a_url(
    local: Path, remote: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    for where in (str(local), str(remote)):
        Ls(folder=where).run()
        Stats(folder=where).run()
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert "clips        3 of 4 planned" in texts[0]


def test_an_error_inside_the_block_leaves_the_old_object(s3: S3Server, remote: Path) -> None:
    before = objects(s3, remote)

    def write_badly() -> None:
        with writing_shard(remote, shard_name(0), FORM, "plan") as writer:
            writer.add(row("new"), noise(FORM, 100, 9))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_badly()
    assert objects(s3, remote) == before
    assert not upload_scratch(Path(tempfile.gettempdir()))


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while bytes are on their way."""


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_upload_that_is_interrupted_leaves_no_object_and_no_parts(s3: S3Server) -> None:
    folder = place(f"{s3.url()}/set")

    def upload() -> None:
        with interrupted_after(0.5), replacing(folder / "shard-000000.tar") as scratch:
            os.truncate(scratch, 250_000_000)

    with pytest.raises(Interrupted):
        upload()
    assert objects(s3, folder) == {}
    assert begun_uploads(s3, folder) == []
    assert not upload_scratch(Path(tempfile.gettempdir()))


KILLED = """
import os, sys
from audio_barlow_twins.shards.base.files import replacing
from audio_barlow_twins.shards.base.place import place
with replacing(place(sys.argv[1])) as scratch:
    os.truncate(scratch, 400_000_000)
"""


def test_what_a_process_leaves_that_is_killed_during_an_upload_is_cleared_later(
    s3: S3Server, tmp_path: Path
) -> None:
    folder = place(f"{s3.url()}/set")
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    victim = python("-c", KILLED, f"{folder}/shard-000000.tar", env=environment)
    while not begun_uploads(s3, folder):
        assert victim.poll() is None, victim.communicate()
        time.sleep(0.05)
    victim.kill()
    victim.communicate()
    assert objects(s3, folder) == {}
    remove_scratch(folder)
    assert begun_uploads(s3, folder) == []

    (left,) = upload_scratch(tmp_path)
    with replacing(folder / "new"):
        assert len(upload_scratch(tmp_path)) == 2  # it may be another process's that is at work
    os.utime(left, (0, 0))
    with replacing(folder / "new") as scratch:
        assert upload_scratch(tmp_path) == {scratch}
        os.utime(scratch, (0, 0))
        with replacing(folder / "other"):
            assert scratch.exists()
    assert upload_scratch(tmp_path) == set()
    assert set(objects(s3, folder)) == {"new", "other"}


def test_a_bucket_that_is_not_there_is_one_line(s3: S3Server) -> None:
    with pytest.raises(UserError) as caught:
        open_shards("s3://no-such-bucket/set")
    assert str(caught.value).startswith("s3://no-such-bucket/set cannot be used (")
    assert "\n" not in str(caught.value)

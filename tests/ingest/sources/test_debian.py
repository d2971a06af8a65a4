"""Debian packages: real ones, by a real apt-get and from a mirror, unpacked by dpkg-deb."""

import hashlib
import io
import logging
import lzma
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import pytest
import soundfile
from debian_archive import apt_config, build, index
from mirror import Mirror

from audio_barlow_twins.ingest.run import Ingest, command_of
from audio_barlow_twins.ingest.sources.clip import Clip
from audio_barlow_twins.ingest.sources.debian.source import OWN_LIST, Debian, read_packages
from audio_barlow_twins.ingest.sources.debian.unpack import find_unpacked, unpack
from audio_barlow_twins.ingest.sources.remote import client
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.sidecar import Row, read_rows

pytestmark = pytest.mark.skipif(not which("dpkg-deb"), reason="there is no dpkg-deb here")
needs_apt = pytest.mark.skipif(not which("apt-get"), reason="there is no apt-get here")


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAUSE_S", 0.001)
    monkeypatch.setattr(client, "_not_before", {})


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, tone: Callable[..., np.ndarray]) -> Path:
    """Make an archive of three packages; one recording is in two of them, in two codings."""
    folder = tmp_path_factory.mktemp("debian")
    rng = np.random.default_rng(0)

    def sound(wave: np.ndarray, kind: str = "WAV") -> bytes:
        target = io.BytesIO()
        soundfile.write(target, wave, 16000, format=kind)
        return target.getvalue()

    shared = tone(1.0) * np.linspace(0.1, 1, 16000)
    build(folder, "bells", "1.2-1", {
        "usr/share/bells/ding.wav": sound(shared),
        "usr/share/bells/dong.ogg": Path("ding.wav"),
        "usr/share/bells/read.me": b"no sound",
    })  # fmt: skip
    build(folder, "owls", "4:2.0-3", {
        "usr/share/owls/hoot.flac": sound(0.4 * shared, "FLAC"),
        "usr/share/owls/night.wav": sound(0.1 * rng.standard_normal(35 * 16000)),
    })  # fmt: skip
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as pak:
        pak.writestr("sound/Jump.WAV", sound(tone(0.5, hz=700)))
        pak.writestr("maps/one.bsp", b"no sound")
    build(folder, "quake", "3", {"usr/share/games/quake/pak0.pk3": zipped.getvalue()})
    build(folder, "quiet", "1", {"usr/share/quiet/none.txt": b"nothing"})
    index(folder)
    return folder


@pytest.fixture
def mirror(archive: Path) -> Iterator[Mirror]:
    mirror = Mirror()
    for path in archive.rglob("*"):
        if path.is_file():
            mirror.files[f"/{path.relative_to(archive)}"] = path.read_bytes()
    with mirror.served():
        yield mirror


def packages_of(folder: Path, rows: str) -> Path:
    path = folder / "packages.csv"
    path.write_text(rows)
    return path


def planned(tmp_path: Path, **options: Any) -> list[Clip]:
    """Fetch and measure the packages of a list, and return their clips."""
    command: Any = command_of(Ingest, "debian")
    return list(command(out=str(tmp_path / "out"), slots=1, **options).prepare()[1])


def made(tmp_path: Path, **options: Any) -> list[Row]:
    """Ingest the packages of a list, and return the rows of the wave set."""
    out = tmp_path / "out"
    command: Any = command_of(Ingest, "debian")
    command(out=str(out), slots=1, **options).run()
    return [row for path in sorted((out / "wave").glob("*.parquet")) for row in read_rows(path)]


def test_audio_of_packages_comes_in_with_version_and_licence_and_what_sounds_the_same_once(
    tmp_path: Path, mirror: Mirror, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = packages_of(tmp_path, "package\nbells\nowls\n")
    rows = made(tmp_path, packages=listed, mirror=mirror.url, suite="toy")
    found = {(row.origin, row.status, row.failure) for row in rows}
    assert found == {
        ("bells/usr/share/bells/ding.wav", "ok", None),
        ("owls/usr/share/owls/hoot.flac", "failed", "duplicate"),
        ("owls/usr/share/owls/night.wav", "ok", None),
    }
    pieces = [row for row in rows if row.origin.endswith("night.wav")]
    assert [(row.start_s, row.end_s) for row in pieces] == [(0, 10), (10, 20), (20, 30), (30, 35)]
    assert {row.source for row in rows} == {
        "debian bells 1.2-1, usr/share/doc/bells/copyright",
        "debian owls 4:2.0-3, usr/share/doc/owls/copyright",
    }
    (hoot,) = [row for row in rows if row.failure]
    assert hoot.message == "sounds like bells/usr/share/bells/ding.wav"
    packages = tmp_path / "out" / "packages"
    assert sorted(path.name for path in packages.iterdir()) == ["bells_1.2-1", "owls_4%3a2.0-3"]
    licence = packages / "owls_4%3a2.0-3" / "usr/share/doc/owls/copyright"
    assert licence.read_text() == "the licence of owls\n"
    assert "1 recordings sound like earlier ones and are dropped" in capsys.readouterr().out


def test_a_second_run_fetches_unpacks_and_measures_nothing(tmp_path: Path, mirror: Mirror) -> None:
    listed = packages_of(tmp_path, "package\nbells\nowls\n")
    first = planned(tmp_path, packages=listed, mirror=mirror.url, suite="toy")
    mirror.asked.clear()
    assert planned(tmp_path, packages=listed, mirror=mirror.url, suite="toy") == first
    assert mirror.asked == []


def test_archives_in_packages_are_folders_of_sounds(tmp_path: Path, mirror: Mirror) -> None:
    listed = packages_of(tmp_path, "package\nquake\n")
    (clip,) = planned(tmp_path, packages=listed, mirror=mirror.url, suite="toy")
    assert clip.origin == "quake/usr/share/games/quake/pak0.pk3/sound/Jump.WAV"
    assert soundfile.info(clip.path).duration == 0.5


@pytest.mark.parametrize("kind", ["damaged", "leading out"])
def test_an_archive_that_cannot_be_unpacked_leaves_nothing(
    tmp_path: Path, tone: Callable[..., np.ndarray], kind: str
) -> None:
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as pak:
        pak.writestr("../../../../../../../../out.wav", b"x" * 100)
    content = b"PK\3\4 and no more" if kind == "damaged" else zipped.getvalue()
    build(tmp_path, "odd", "1", {"usr/share/odd/a.zip": content})
    (deb,) = (tmp_path / "pool").glob("*.deb")
    with pytest.raises(UserError, match=r"odd_1_all\.deb cannot be unpacked: "):
        unpack(deb, tmp_path / "to")
    assert find_unpacked(tmp_path / "to") == {}
    assert not (tmp_path / "out.wav").exists()


def test_what_a_kill_left_half_unpacked_is_unpacked_again(tmp_path: Path, mirror: Mirror) -> None:
    half = tmp_path / "out" / "packages" / ".bells_1.2-1.tmp" / "usr" / "share" / "bells"
    half.mkdir(parents=True)
    (half / "rest.wav").write_bytes(b"half of a so")
    listed = packages_of(tmp_path, "package\nbells\n")
    clips = planned(tmp_path, packages=listed, mirror=mirror.url, suite="toy")
    assert [clip.origin for clip in clips] == ["bells/usr/share/bells/ding.wav"]
    assert not half.exists()


@needs_apt
def test_apt_get_of_the_machine_is_the_default(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APT_CONFIG", str(apt_config(archive, tmp_path / "apt")))
    listed = packages_of(tmp_path, "package,version\nbells,1.2-1\nowls,4:2.0-3\n")
    clips = planned(tmp_path, packages=listed, duplicates="keep")
    assert len(clips) == 6


@needs_apt
def test_a_package_that_apt_does_not_know_is_named(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APT_CONFIG", str(apt_config(archive, tmp_path / "apt")))
    listed = packages_of(tmp_path, "package\nbells\nwolves\n")
    with pytest.raises(UserError, match="apt-get has not got wolves; take the rest by --missing"):
        planned(tmp_path, packages=listed)


def test_missing_packages_are_named_together_and_may_be_skipped(
    tmp_path: Path, mirror: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    listed = packages_of(tmp_path, "package\nwolves\nbells\nbears\n")
    with pytest.raises(UserError, match="has not got wolves, bears; take the rest by"):
        planned(tmp_path, packages=listed, mirror=mirror.url, suite="toy")
    clips = planned(tmp_path, packages=listed, mirror=mirror.url, suite="toy", missing="skip")
    assert len(clips) == 1
    assert "wolves, bears, which is left out" in caplog.text


def test_another_version_is_a_warning(
    tmp_path: Path, mirror: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    listed = packages_of(tmp_path, "package,version\nbells,1.0-1\n")
    with caplog.at_level(logging.WARNING):
        planned(tmp_path, packages=listed, mirror=mirror.url, suite="toy")
    assert "bells is 1.2-1, the list has 1.0-1" in caplog.text


@pytest.mark.parametrize("fault", ["503", "cut", "hang up"])
def test_a_mirror_that_stumbles_is_asked_again(tmp_path: Path, mirror: Mirror, fault: str) -> None:
    mirror.faults += [fault, fault]
    listed = packages_of(tmp_path, "package\nbells\n")
    assert len(planned(tmp_path, packages=listed, mirror=mirror.url, suite="toy")) == 1


def test_a_package_that_is_not_what_its_index_says_is_refused(
    tmp_path: Path, mirror: Mirror
) -> None:
    (path,) = [path for path in mirror.files if "bells" in path and path.endswith(".deb")]
    mirror.files[path] = mirror.files[path][:-1] + b"!"
    listed = packages_of(tmp_path, "package\nbells\n")
    with pytest.raises(UserError, match=r"has the SHA-256 .*, its index says"):
        planned(tmp_path, packages=listed, mirror=mirror.url, suite="toy")
    assert list((tmp_path / "out" / "packages").iterdir()) == []


@pytest.mark.parametrize(
    ("suite", "said"), [("none", "cannot be fetched: the server answered 404")]
)
def test_an_unknown_suite_is_named(tmp_path: Path, mirror: Mirror, suite: str, said: str) -> None:
    listed = packages_of(tmp_path, "package\nbells\n")
    with pytest.raises(UserError, match=said):
        planned(tmp_path, packages=listed, mirror=mirror.url, suite=suite)


def test_packages_without_sound_are_said_so(tmp_path: Path, mirror: Mirror) -> None:
    listed = packages_of(tmp_path, "package\nquiet\n")
    with pytest.raises(UserError, match="no audio file in these packages"):
        planned(tmp_path, packages=listed, mirror=mirror.url, suite="toy")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("name\nbells\n", "has no column `package`"),
        ("package\n", "lists no package"),
        ("package\nbells\nbells\n", "line 3: 'bells' is no package, or comes again"),
        ("package\n../../etc\n", "line 2: '../../etc' is no package"),
        ("package\n--root=/\n", "line 2: '--root=/' is no package"),
    ],
)
def test_lists_that_are_none_are_refused(tmp_path: Path, rows: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_packages(packages_of(tmp_path, rows))


def test_a_remote_set_needs_a_folder_for_the_packages(tmp_path: Path) -> None:
    listed = packages_of(tmp_path, "package\nbells\n")
    with pytest.raises(UserError, match="name a folder for the packages by --unpacked"):
        Debian(packages=listed, out="s3://bucket/set").files()


def test_a_package_that_is_none_is_refused(tmp_path: Path, mirror: Mirror) -> None:
    (path,) = [path for path in mirror.files if "bells" in path and path.endswith(".deb")]
    plain = bytes(2000)
    was, mirror.files[path] = mirror.files[path], plain
    index_path = "/dists/toy/main/binary-amd64/Packages.xz"
    text = lzma.decompress(mirror.files[index_path]).decode()
    old, new = (hashlib.sha256(each).hexdigest() for each in (was, plain))
    mirror.files[index_path] = lzma.compress(text.replace(old, new).encode())
    listed = packages_of(tmp_path, "package\nbells\n")
    with pytest.raises(UserError, match="is no Debian package"):
        planned(tmp_path, packages=listed, mirror=mirror.url, suite="toy")


def test_the_own_list_has_versions_of_all_packages() -> None:
    packages = read_packages(OWN_LIST)
    assert len(packages) == 41
    assert all(packages.values())

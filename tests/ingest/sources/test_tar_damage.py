"""Tars that are cut, damaged or compressed: one line before anything starts, or all that is in."""

import bz2
import gzip
import lzma
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tar_files import clips_of, write_tar

from audio_barlow_twins.shards.base.errors import UserError

MEMBERS = {"a.wav": b"a" * 700, "d/b.c.wav": b"b" * 1500, "e.wav": b"e" * 512}
SIZE = slice(124, 136)
SUM = slice(148, 156)


def zstd(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)


PACKERS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstd}
SHORT = {"gzip": "gz", "bzip2": "bz2", "xz": "xz", "zstd": "zst"}


def set_size(path: Path, at: int, size: int) -> None:
    """Write another size, in base 256, into the header at byte `at`."""
    content = bytearray(path.read_bytes())
    header = content[at : at + 512]
    header[SIZE] = (size % (1 << 96)).to_bytes(12, "big")
    header[SIZE.start] = 0xFF if size < 0 else 0x80
    header[SUM] = b" " * 8
    header[SUM] = b"%06o\0 " % sum(header)
    content[at : at + 512] = header
    path.write_bytes(content)


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("renamed", [False, True])
def test_a_compressed_tar_is_one_line_that_says_by_what(
    kind: str, renamed: bool, tmp_path: Path
) -> None:
    path = write_tar(tmp_path / "good.tar", MEMBERS)
    packed = tmp_path / ("x.tar" if renamed else f"x.tar.{SHORT[kind]}")
    packed.write_bytes(PACKERS[kind](path.read_bytes()))
    for given_url in (packed, tmp_path):
        with pytest.raises(UserError, match=rf"{packed.name} .* compressed \({kind}\).*unpack"):
            clips_of(given_url)


@given(cut=st.integers(0, 5 * 1024))
def test_a_tar_that_was_cut_lists_all_its_sounds_or_is_refused(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write_tar(tmp_path_factory.getbasetemp() / "cut" / "a.tar", MEMBERS)
    content = path.read_bytes()
    path.write_bytes(content[:cut])
    ends = [512 + 1024, 1536 + 512 + 1536, 3584 + 512 + 512]  # of the members
    if cut in ends or cut >= ends[-1] + 512:
        assert len(clips_of(path)) == sum(end <= cut for end in ends)
    else:
        with pytest.raises(UserError, match="cannot be read as a tar of audio"):
            clips_of(path)


def test_a_cut_names_the_tar_and_the_member(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", MEMBERS)
    path.write_bytes(path.read_bytes()[:2500])
    with pytest.raises(UserError) as caught:
        clips_of(path)
    assert str(caught.value) == (
        f"{path} cannot be read as a tar of audio: d/b.c.wav has 1500 bytes from byte 2048 on, the "
        "tar 2500; the tar is cut or damaged: get it again"
    )


def test_a_tar_without_an_end_mark_is_read_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_tar(tmp_path / "a.tar", MEMBERS)
    path.write_bytes(path.read_bytes()[: 3584 + 1024])
    assert len(clips_of(path)) == 3
    assert f"{path} ends after e.wav without an end mark" in caplog.text


@given(junk=st.binary(min_size=1, max_size=512), place=st.sampled_from([1536, 3584, 4608]))
def test_junk_in_place_of_a_header_is_refused_by_its_place(
    junk: bytes, place: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write_tar(tmp_path_factory.getbasetemp() / "junk" / "a.tar", MEMBERS)
    content = path.read_bytes()
    if not any(junk):
        junk = b"x"
    path.write_bytes(content[:place] + junk.ljust(512, b"j") + content[place + 512 :])
    with pytest.raises(UserError, match=f"there is no header behind .*, at byte {place}; "):
        clips_of(path)


@pytest.mark.parametrize("size", [-1, -512, -(10**9), 1 << 20, 1 << 62, 1 << 80])
@pytest.mark.parametrize("at", [0, 1536])
def test_a_size_that_cannot_be_is_one_line_that_names_the_member(
    size: int, at: int, tmp_path: Path
) -> None:
    path = write_tar(tmp_path / "a.tar", MEMBERS)
    set_size(path, at, size)
    with pytest.raises(UserError, match=rf"{'d/b' if at else 'a'}.*{size} bytes") as caught:
        clips_of(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [-1, -(10**9), 1 << 62])
def test_a_size_that_cannot_be_of_a_long_name_is_one_line(size: int, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"n" * 200 + ".wav": b"x"}, format=tarfile.GNU_FORMAT)
    set_size(path, 0, size)
    with pytest.raises(UserError, match=f"says {size} bytes; the tar is cut or damaged"):
        clips_of(path)


@pytest.mark.parametrize("size", ["-1", "-100000", "9" * 30])
def test_a_size_that_cannot_be_in_a_pax_header_is_one_line(size: str, tmp_path: Path) -> None:
    member = tarfile.TarInfo("a.wav")
    member.pax_headers = {"size": size}
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member)
    with pytest.raises(UserError, match=f"a.wav has {size} bytes from byte"):
        clips_of(tmp_path / "a.tar")


def test_headers_without_end_are_one_line(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    (tmp_path / "a.tar").write_bytes(header.tobuf(tarfile.USTAR_FORMAT) * 5000)
    with pytest.raises(UserError, match="cannot be read as a tar of audio"):
        clips_of(tmp_path / "a.tar")


@given(place=st.integers(0, 8 * 1024), junk=st.binary(min_size=1, max_size=20))
def test_any_damage_is_one_line_or_harmless(
    place: int, junk: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damage" / "a.tar"
    members = {"n" * 200 + ".wav": b"x" * 100, "é.wav": b"y", "é.json": b'{"labels": "a"}'}
    write_tar(path, members, format=tarfile.PAX_FORMAT)
    content = path.read_bytes()
    path.write_bytes(content[:place] + junk + content[place + len(junk) :])
    try:
        clips = clips_of(path)
    except UserError:
        return
    assert len(clips) <= 2


def test_a_tar_behind_the_end_of_another_is_not_lost_in_silence(tmp_path: Path) -> None:
    one, two = (write_tar(tmp_path / name, MEMBERS) for name in ("1.tar", "2.tar"))
    one.write_bytes(one.read_bytes() + two.read_bytes())
    with pytest.raises(UserError, match=r"another tar follows behind e\.wav"):
        clips_of(one)


def test_what_fills_the_last_record_is_anybodys(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", MEMBERS)
    path.write_bytes(path.read_bytes()[:-3000] + b"filler" * 500)
    assert len(clips_of(path)) == 3


def test_an_empty_tar_is_fine_beside_others(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {})
    write_tar(tmp_path / "b.tar", MEMBERS)
    assert len(clips_of(tmp_path)) == 3
    with pytest.raises(UserError, match="no audio in the tars"):
        clips_of(tmp_path / "a.tar")


def test_the_damage_of_one_tar_stops_all_before_anything_starts(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", MEMBERS)
    bad = write_tar(tmp_path / "b.tar", MEMBERS)
    bad.write_bytes(bad.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"b\.tar cannot be read"):
        clips_of(tmp_path)

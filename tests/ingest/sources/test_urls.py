"""Files by paths, folders, patterns and URLs: what exists is meant, whatever it is called."""

import zipfile
from pathlib import Path

import fsspec
import pytest

from audio_barlow_twins.ingest.sources.remote.open import opened
from audio_barlow_twins.ingest.sources.remote.urls import find_urls, short_names
from audio_barlow_twins.shards.base.errors import UserError

ODD = [
    "with [brackets]",
    "a*b",
    "what?",
    "colon::x",
    "hash#1",
    "percent%20",
    "a b é",
    "file:x",
    "~",
]


def write(path: Path, content: bytes = b"content") -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("relative", [False, True])
def test_a_folder_or_file_that_exists_is_that_path(
    name: str, relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / name / f"{name}.tar")
    monkeypatch.chdir(tmp_path)
    root = Path() if relative else tmp_path
    for given in (root / name, root / name / f"{name}.tar"):
        (found,) = find_urls((str(given),), "tar")
        assert found == str(file)
        with opened(found) as content:
            assert content.read() == b"content"


def test_what_does_not_exist_is_a_pattern(tmp_path: Path) -> None:
    paths = [str(write(tmp_path / "x" / name)) for name in ("a-0.tar", "a-1.tar", "b.tar")]
    assert find_urls((f"{tmp_path}/*/a-[01].tar",), "tar") == paths[:2]
    assert find_urls((f"file://{tmp_path}/x/a-*.tar",), "tar") == paths[:2]


def test_endings_may_be_in_capitals_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    for name in ("B.TAR", "a.tar", "c.tar.gz", "._a.tar", "d.txt"):
        write(tmp_path / name)
    found = find_urls((str(tmp_path),), "tar", "tar.gz")
    assert [Path(each).name for each in found] == ["B.TAR", "a.tar", "c.tar.gz"]


def test_a_folder_behind_a_url_is_no_pattern_either() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/odd[1]/a[2].tar", b"one")
    for url in ("memory://odd[1]", "memory://odd[1]/a[2].tar", "memory://odd*/*.tar"):
        (found,) = find_urls((url,), "tar")
        with opened(found) as file:
            assert file.read() == b"one"


def test_urls_may_be_chained(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "mirror.zip", "w") as archive:
        archive.writestr("d/a.tar", b"inside")
    fsspec.filesystem("memory").pipe("/chained/a.tar", b"inside")
    for url in (f"zip://d/*.tar::{tmp_path}/mirror.zip", "simplecache::memory://chained"):
        (found,) = find_urls((url,), "tar")
        assert found.count("::") == 1
        with opened(found) as file:
            assert file.read() == b"inside"


def test_each_file_is_named_once(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.tar"))
    assert find_urls((path, str(tmp_path), f"file://{path}"), "tar") == [path]


@pytest.mark.parametrize("name", ["nothing-*.tar", "nothing", "no::thing.tar", ""])
def test_what_names_nothing_is_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such tar file, nor a folder of them"):
        find_urls((f"{tmp_path}/{name}",), "tar")


def test_short_names_are_whole_urls_where_two_files_share_one() -> None:
    assert short_names(["/a/0.tar", "/b/1.tar"]) == {"/a/0.tar": "0.tar", "/b/1.tar": "1.tar"}
    same = ["/a/0.tar", "s3://b/0.tar"]
    assert list(short_names(same).values()) == ["file:///a/0.tar", "s3://b/0.tar"]

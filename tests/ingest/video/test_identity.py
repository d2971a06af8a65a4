"""Identities: named without passwords, paired or alone, and jars that travel to the workers."""

import os
from pathlib import Path

import pytest

from audio_barlow_twins.ingest.video.identity import read_identities
from audio_barlow_twins.shards.base.errors import UserError

JAR = "# Netscape HTTP Cookie File\n.site\tTRUE\t/\tFALSE\t0\tname\tvalue\n"


@pytest.fixture
def jars(tmp_path: Path) -> list[Path]:
    """Write two cookie files."""
    paths = [tmp_path / "one.txt", tmp_path / "two.txt"]
    for path in paths:
        path.write_text(JAR + f"# {path.stem}\n")
    return paths


def test_a_run_without_proxy_and_cookies_asks_under_the_address_of_each_machine(
    tmp_path: Path,
) -> None:
    (identity,) = read_identities((), ()).here("10.0.0.7", tmp_path)
    assert (identity.name, identity.proxy, identity.cookies) == ("address 10.0.0.7", "", "")
    (identity,) = read_identities((), (), one_address=True).here("10.0.0.7", tmp_path)
    assert identity.name == "address"


def test_names_hold_no_password(tmp_path: Path, jars: list[Path]) -> None:
    proxies = ["socks5://user:secret@host:1080", "http://other"]
    names = [identity.name for identity in read_identities(proxies, jars).known]
    assert names[0].startswith("proxy host:1080#")
    assert names[0].endswith(" cookies one")
    assert names[1] == "proxy other cookies two"
    assert not {"user", "secret"} & set("".join(names).replace("#", " ").split())


def test_sessions_behind_one_proxy_are_identities_of_their_own() -> None:
    known = read_identities(["http://a:x@host:1", "http://b:x@host:1"], ()).known
    assert len({identity.name for identity in known}) == 2


def test_proxies_and_jars_of_another_number_stand_alone(tmp_path: Path, jars: list[Path]) -> None:
    found = read_identities(["http://host:1"], jars).here("x", tmp_path)
    assert [(i.name, i.proxy, bool(i.cookies)) for i in found] == [
        ("proxy host:1", "http://host:1", False),
        ("cookies one", "", True),
        ("cookies two", "", True),
    ]


def test_jars_reach_a_worker_that_cannot_see_the_files(tmp_path: Path, jars: list[Path]) -> None:
    identities = read_identities((), jars)
    wanted = [path.read_text() for path in jars]
    for path in jars:
        path.unlink()
    folder = tmp_path / "worker"
    folder.mkdir()
    found = identities.here("x", folder)
    assert [Path(i.cookies).read_text() for i in found] == wanted
    assert all(os.stat(i.cookies).st_mode & 0o077 == 0 for i in found)


@pytest.mark.parametrize(
    ("proxies", "words"),
    [
        (["host:3128"], "host:3128 is no URL"),
        (["http://a:1", "http://a:1"], "proxy a:1 is given twice"),
    ],
)
def test_a_proxy_that_is_no_url_or_given_twice_is_refused(proxies: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_identities(proxies, ())


def test_a_file_that_is_no_jar_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_identities((), [tmp_path / "none.txt"])
    (tmp_path / "json.txt").write_text("{}")
    with pytest.raises(UserError, match="holds no cookie in Netscape's format"):
        read_identities((), [tmp_path / "json.txt"])

"""A path stays a path, a URL becomes a place with the same methods, anything else is one line."""

import pickle
import socket
import sys
import threading
from pathlib import Path

import pytest

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.place import THREADS, is_remote, place, read_each
from audio_barlow_twins.shards.stored.shardset import open_shards


@pytest.mark.parametrize("where", ["a/b", "/a//b", "s3:/a", "file:///a/b", Path("a")])
def test_a_path_is_local(where: str | Path) -> None:
    assert isinstance(place(where), Path)
    assert not is_remote(place(where))


def test_a_url_has_the_methods_of_a_path_and_travels_to_other_processes() -> None:
    folder = place("s3://bucket/set")
    tar = folder / "shard-000000.tar"
    assert is_remote(tar)
    assert str(tar.with_suffix(".parquet")) == "s3://bucket/set/shard-000000.parquet"
    assert (tar.stem, tar.name, tar.parent) == ("shard-000000", "shard-000000.tar", folder)
    assert pickle.loads(pickle.dumps(tar)) == tar.resolve() == tar


def test_a_scheme_that_nothing_opens_is_one_line() -> None:
    with pytest.raises(UserError, match="scheme that fsspec does not know") as caught:
        place("foo://bucket/set")
    assert "\n" not in str(caught.value)


def test_a_package_that_is_missing_is_one_line_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(UserError, match=r"pip install 'audio-barlow-twins\[s3\]'") as caught:
        place("s3://bucket/set")
    assert "\n" not in str(caught.value)


def test_remote_files_are_read_by_many_threads_in_order_and_only_a_few_ahead() -> None:
    meeting, begun = threading.Barrier(THREADS), 0

    def read(path: Path) -> str:
        nonlocal begun
        begun += 1
        meeting.wait(10)
        return path.name

    paths = [place("s3://bucket/set") / str(n) for n in range(10 * THREADS)]
    results = read_each(read, paths)
    assert next(results) == "0"
    assert begun <= 3 * THREADS + 1
    assert list(results) == [path.name for path in paths[1:]]


def test_local_files_are_read_in_this_thread(tmp_path: Path) -> None:
    found = list(read_each(lambda path: threading.current_thread(), [tmp_path] * 3))
    assert set(found) == {threading.current_thread()}


def test_a_store_that_never_answers_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audio_barlow_twins.shards.base.place.ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        with pytest.raises(UserError, match=r"cannot be used .*check the bucket") as caught:
            open_shards("s3://bucket/set")
    assert "\n" not in str(caught.value)

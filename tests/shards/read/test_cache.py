"""Remote sets through the bounded cache: the crops of the local set, from a store that may fail."""

import errno
import fcntl
import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice, pairwise
from pathlib import Path
from subprocess import DEVNULL, PIPE

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import noise_set, python, small_form
from s3_server import S3Server
from store_proxy import StoreProxy, proxying
from test_crop_reader import content
from test_order import index
from waiting import HANG_S

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.place import place
from audio_barlow_twins.shards.read.order import Crops, Order, shard_requests
from audio_barlow_twins.shards.read.reader import CropReader
from audio_barlow_twins.shards.read.remote import client, prefetch
from audio_barlow_twins.shards.read.remote.client import StoreClient
from audio_barlow_twins.shards.read.remote.folder import CacheOptions
from audio_barlow_twins.shards.stored.shardset import open_shards

N_SHARDS = 12
LENGTHS = [[40_000 + 500 * ((3 * i + j) % 7) for j in range(8)] for i in range(N_SHARDS)]
FRAMES = 30


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve shards of 0.7 MB, eight waves each, with one short clip and one shard of few."""
    lengths = [list(shard) for shard in LENGTHS]
    lengths[3][0], lengths[5] = 10, lengths[5][:2]
    return noise_set(tmp_path_factory.mktemp("local") / "wave", small_form("wave"), lengths)


@pytest.fixture(scope="module")
def remote(s3: S3Server, local: Path) -> str:
    """The same set behind a URL."""
    return upload(s3, local)


def upload(s3: S3Server, folder: Path, pattern: str = "*") -> str:
    url = f"{s3.url()}/deep/wave"
    s3.client().put([str(path) for path in folder.glob(pattern)], url + "/")
    return url


@pytest.fixture
def proxy(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreProxy]:
    """Stand between the server and every client that is made from now on."""
    clients = fsspec.get_filesystem_class("s3")
    with proxying(s3.environment["AWS_ENDPOINT_URL"]) as way:
        monkeypatch.setenv("AWS_ENDPOINT_URL", way.url)
        clients.clear_instance_cache()
        yield way
    clients.clear_instance_cache()


def sizes_of(folder: Path) -> list[int]:
    return open_shards(folder).tar_bytes


def read(shards: Path | str, n_steps: int, first_step: int = 0, **options) -> list[list[list]]:
    options = {"frames": FRAMES, "batch": 5, "block_shards": 2, **options}
    with CropReader(shards, **options) as reader:
        return [content(batch) for batch in reader.batches(first_step, n_steps)]


def tars(gets: Counter[str]) -> Counter[str]:
    return Counter({name: n for name, n in gets.items() if name.endswith(".tar")})


@contextmanager
def watched(folder: Path) -> Iterator[list[int]]:
    """Add up the sizes of the folder's files, over and over."""
    seen: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            stats = []
            for path in folder.glob("*/*"):
                with suppress(FileNotFoundError):
                    stats.append(path.stat())
            seen.append(sum(stat.st_size for stat in stats))
            over.wait(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


STEPS = 2 * 90 // 5  # two epochs


def test_s3_is_read_as_the_disk_is_within_a_third_of_its_size_and_once_an_epoch(
    local: Path, remote: str, proxy: StoreProxy, tmp_path: Path
) -> None:
    budget = sum(sizes_of(local)) // 3
    options = CacheOptions(folder=tmp_path / "cache", max_bytes=budget)
    with watched(tmp_path / "cache") as seen:
        found = read(remote, STEPS, cache=options)
    assert found == read(local, STEPS)
    assert len(open_shards(local)) * 2 == STEPS * 5
    assert len(seen) > 50
    assert 0.6 * budget < max(seen) <= budget
    assert len(tars(proxy.gets)) == N_SHARDS
    # Two epochs and the begin of the third, whose first blocks were on their way already; what
    # lies there when an epoch ends is not fetched again for the next one.
    assert max(tars(proxy.gets).values()) <= 3
    assert sum(tars(proxy.gets).values()) <= 2 * N_SHARDS + 2


def test_a_restarted_reader_fetches_nothing_again(
    local: Path, remote: str, proxy: StoreProxy, tmp_path: Path
) -> None:
    options = CacheOptions(folder=tmp_path)
    expected = read(local, STEPS, block_shards=0)
    assert read(remote, STEPS, block_shards=0, cache=options) == expected
    assert sum(tars(proxy.gets).values()) == N_SHARDS
    assert read(remote, STEPS, block_shards=0, cache=options) == expected
    assert sum(tars(proxy.gets).values()) == N_SHARDS


def test_a_cached_tar_of_a_wrong_size_is_fetched_again(
    local: Path, remote: str, proxy: StoreProxy, tmp_path: Path
) -> None:
    options = CacheOptions(folder=tmp_path)
    read(remote, 18, cache=options)
    (tar,) = tmp_path.glob("*/shard-000004.tar")
    os.truncate(tar, 1000)
    assert read(remote, 18, cache=options) == read(local, 18)
    assert tars(proxy.gets).pop("shard-000004.tar") == 2


RANK = """
import json, sys
from pathlib import Path
from audio_barlow_twins.shards.read.remote.folder import CacheOptions
from audio_barlow_twins.shards.read.reader import CropReader
url, rank, *caches = sys.argv[1:]
for folder, budget in zip(caches[::2], map(int, caches[1::2])):
    cache = CacheOptions(folder=Path(folder), max_bytes=budget)
    rows = range(5 * int(rank), 5 * int(rank) + 5)
    options = dict(frames=30, batch=10, rows=rows, block_shards=2, cache=cache)
    reader = CropReader(url, **options)
    print("ready", flush=True)
    sys.stdin.readline()
    batches = [
        [[crop.tobytes().hex() for crop in batch.crops.numpy()], batch.clips.tolist()]
        for batch in reader.batches(0, 18)
    ]
    reader.close()
    print(json.dumps(batches), flush=True)
"""


@contextmanager
def two_ranks(*arguments: object) -> Iterator[Callable[[], list[list]]]:
    """Start two processes; each call lets both read at the same time, and joins what they read."""
    ranks = [
        python("-c", RANK, str(arguments[0]), str(rank), *map(str, arguments[1:]), stdin=PIPE)
        for rank in range(2)
    ]

    def answers() -> list[str]:
        lines = [process.stdout.readline() for process in ranks if process.stdout]
        assert all(lines), [process.communicate()[1] for process in ranks]
        return lines

    def read_together() -> list[list]:
        assert answers() == ["ready\n"] * 2
        for process in ranks:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        parts = [json.loads(line) for line in answers()]
        return [[a + b for a, b in zip(*both, strict=True)] for both in zip(*parts, strict=True)]

    yield read_together
    for process in ranks:
        process.communicate()


def test_two_processes_share_what_either_fetches_and_get_along_in_a_cache_for_one_block(
    local: Path, remote: str, proxy: StoreProxy, tmp_path: Path
) -> None:
    expected = [batch[:2] for batch in read(local, 18, batch=10)]
    ample, tight = tmp_path / "ample", tmp_path / "tight"
    budget = 2 * max(sizes_of(local))
    with two_ranks(remote, ample, 10**9, tight, budget) as read_together:
        assert read_together() == expected
        assert tars(proxy.gets) == {f"shard-{i:06d}.tar": 1 for i in range(N_SHARDS)}
        with watched(tight) as seen:
            assert read_together() == expected
        assert max(seen) <= budget


def test_a_killed_reader_leaves_nothing_that_harms(
    local: Path, remote: str, proxy: StoreProxy, tmp_path: Path
) -> None:
    proxy.set("slow")
    victim = python("-c", RANK, remote, "0", str(tmp_path), "9999999", stdin=DEVNULL)
    while not list(tmp_path.glob("*/.shard-*.tmp")):
        assert victim.poll() is None, victim.communicate()
        time.sleep(0.01)
    victim.kill()
    victim.communicate()
    assert list(tmp_path.glob("*/.shard-*.tmp"))
    proxy.set("open")
    options = CacheOptions(folder=tmp_path, max_bytes=sum(sizes_of(local)) // 3)
    assert read(remote, STEPS, cache=options) == read(local, STEPS)
    assert not list(tmp_path.glob("*/.shard-*.tmp"))


def test_a_bit_that_flips_on_the_way_costs_a_second_transfer(
    local: Path, remote: str, proxy: StoreProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch, "THREADS", 1)
    proxy.to_damage = 1
    assert read(remote, 18, cache=CacheOptions(folder=tmp_path)) == read(local, 18)
    assert proxy.to_damage == 0
    assert sorted(tars(proxy.gets).values()) == [1] * 11 + [2]


def test_a_bit_that_flipped_in_the_store_is_an_error_that_names_shard_and_clip(
    s3: S3Server, local: Path, tmp_path: Path
) -> None:
    bad = Path(shutil.copytree(local, tmp_path / "bad"))
    offset = int(open_shards(bad).offsets[8 + 8 + 5])
    with (bad / "shard-000002.tar").open("r+b") as file:
        file.seek(offset + 3000)
        byte = file.read(1)
        file.seek(offset + 3000)
        file.write(bytes([byte[0] ^ 16]))
    pattern = (
        r"shard-000002\.tar: the bytes of clip clip2_5 do not match .* also when fetched again"
    )
    with pytest.raises(UserError, match=pattern):
        read(upload(s3, bad, "*[12].*"), 18, cache=CacheOptions(folder=tmp_path / "cache"))
    assert not list((tmp_path / "cache").glob("*/*shard-000002*"))


def test_an_object_that_was_cut_or_lost_is_an_error_that_names_it(
    s3: S3Server, local: Path, tmp_path: Path
) -> None:
    size = sizes_of(local)[7]
    bad = Path(shutil.copytree(local, tmp_path / "bad"))
    os.truncate(bad / "shard-000007.tar", size - 600)
    url = upload(s3, bad, "*[67].*")
    with pytest.raises(UserError, match=f"000007.tar has {size - 600} bytes, written were {size}"):
        read(url, 18, cache=CacheOptions(folder=tmp_path / "cache"))
    (place(url) / "shard-000007.tar").unlink()
    with pytest.raises(UserError, match=r"shard-000007.tar cannot be read .* run|with .* verify"):
        read(url, 18, cache=CacheOptions(folder=tmp_path / "cache"))


@pytest.mark.parametrize("mode", ["dead", "silent"])
def test_a_store_that_dies_in_mid_run_is_retried_and_then_reported_in_one_line(
    mode: str,
    local: Path,
    remote: str,
    proxy: StoreProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "TRIES", 2)
    monkeypatch.setattr(client, "TIMEOUT_S", 1)
    monkeypatch.setattr(prefetch, "THREADS", 2)
    options = CacheOptions(folder=tmp_path, max_bytes=2 * max(sizes_of(local)))
    with CropReader(remote, frames=FRAMES, batch=5, block_shards=2, cache=options) as reader:
        batches = reader.batches()
        next(batches)
        proxy.set(mode)
        begin = time.monotonic()
        with pytest.raises(UserError) as caught:
            list(islice(batches, 100))
        assert time.monotonic() - begin < 60  # not the usual 5 tries of 30 s
    pattern = r"s3://.*/deep/wave/shard-\d+\.(tar|parquet) did not arrive in 2 tries within \d s \("
    assert "\n" not in str(caught.value)
    caught.match(pattern)


def test_a_store_that_comes_back_in_time_is_read_on(
    local: Path, remote: str, proxy: StoreProxy, tmp_path: Path
) -> None:
    budget = 2 * max(sizes_of(local))
    options = CacheOptions(folder=tmp_path, max_bytes=budget)
    with CropReader(remote, frames=FRAMES, batch=5, block_shards=2, cache=options) as reader:
        batches = reader.batches(n_steps=STEPS)
        found = [content(next(batches))]
        proxy.set("dead")
        threading.Timer(1.0, proxy.set, ["open"]).start()
        found += map(content, batches)
    assert found == read(local, STEPS)


def test_a_slow_store_ends_no_later_than_its_reader(
    remote: str, proxy: StoreProxy, tmp_path: Path
) -> None:
    shard_set = open_shards(remote)
    proxy.set("silent")
    reader = CropReader(shard_set, frames=FRAMES, batch=5, cache=CacheOptions(folder=tmp_path))
    batches = reader.batches()
    begin = time.monotonic()
    closing = threading.Timer(0.5, reader.close)
    closing.start()
    with pytest.raises(ValueError, match="the reader was closed while"):
        next(batches)
    closing.join()
    assert time.monotonic() - begin < client.TIMEOUT_S / 2
    assert not list(tmp_path.glob("*/*.tmp"))


FORGOTTEN = """
import sys, time
from pathlib import Path
from audio_barlow_twins.shards.read.remote.folder import CacheOptions
from audio_barlow_twins.shards.read.reader import CropReader
cache = CacheOptions(folder=Path(sys.argv[2]), max_bytes=int(sys.argv[3]))
reader = CropReader(sys.argv[1], frames=30, batch=5, block_shards=2, cache=cache)
batches = reader.batches()
next(batches)
print("read", flush=True)
"""


def test_a_process_that_forgets_its_reader_ends(local: Path, remote: str, tmp_path: Path) -> None:
    budget = 2 * max(sizes_of(local))
    process = python("-c", FORGOTTEN, remote, str(tmp_path), str(budget))
    output, errors = process.communicate(timeout=HANG_S)
    assert (output, errors) == ("read\n", "")
    assert process.returncode == 0
    assert not list(tmp_path.glob("*/*.tmp"))


def test_a_full_disk_is_one_line(
    remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=rf"the disk of {tmp_path}/\w+ is full"):
        read(remote, 1, cache=CacheOptions(folder=tmp_path))
    assert not list(tmp_path.glob("*/*shard*"))


def test_an_error_of_ours_comes_out_as_it_is(
    remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(StoreClient, "fetch", broken)
    with pytest.raises(ZeroDivisionError):
        read(remote, 1, cache=CacheOptions(folder=tmp_path))


@pytest.fixture(scope="module")
def in_memory(local: Path) -> str:
    """The set in a file system that is not asynchronous, and has no network."""
    target = place("memory://cache-test/wave")
    target.mkdir(parents=True)
    for path in local.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return str(target)


@settings(max_examples=12)
@given(
    block_shards=st.integers(1, 12),
    spare=st.integers(0, 3 * 700_000),
    batch=st.integers(1, 60),
    threads=st.integers(1, 5),
    ahead=st.integers(0, 6),
    first_step=st.integers(0, 50),
)
def test_no_budget_batch_or_thread_changes_a_crop(
    local: Path,
    in_memory: str,
    tmp_path_factory: pytest.TempPathFactory,
    block_shards: int,
    spare: int,
    batch: int,
    threads: int,
    ahead: int,
    first_step: int,
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    budget = sum(sorted(sizes_of(local))[-block_shards:]) + spare
    same = {"block_shards": block_shards, "batch": batch, "first_step": first_step}
    cache = CacheOptions(folder=folder, max_bytes=budget)
    with watched(folder) as seen, pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefetch, "THREADS", threads)
        found = read(in_memory, 20, cache=cache, ahead=ahead, **same)
    assert found == read(local, 20, **same)
    assert max(seen) <= budget
    shutil.rmtree(folder)


def test_sequences_that_are_far_apart_follow_each_other_in_a_cache_for_one_block(
    local: Path, in_memory: str, tmp_path: Path
) -> None:
    cache = CacheOptions(folder=tmp_path, max_bytes=2 * max(sizes_of(local)))
    with CropReader(in_memory, frames=FRAMES, batch=5, block_shards=2, cache=cache) as reader:
        for first_step in (0, 11, 4, 30):
            found = [content(batch) for batch in reader.batches(first_step, 3)]
            assert found == read(local, 3, first_step)


@settings(max_examples=6)
@given(
    first_steps=st.lists(st.integers(0, 20), min_size=2, max_size=4),
    block_shards=st.integers(1, 5),
    spare=st.integers(0, 700_000),
    pause_ms=st.integers(0, 5),
)
def test_readers_of_a_run_get_on_however_far_apart_they_are(
    local: Path,
    in_memory: str,
    tmp_path_factory: pytest.TempPathFactory,
    first_steps: list[int],
    block_shards: int,
    spare: int,
    pause_ms: int,
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    budget = sum(sorted(sizes_of(local))[-block_shards:]) + spare
    n = len(first_steps)
    same = {"block_shards": block_shards, "batch": 3 * n}
    cache = CacheOptions(folder=folder, max_bytes=budget)

    def one_rank(rank: int) -> list[list[list]]:
        rows = range(3 * rank, 3 * rank + 3)
        with CropReader(in_memory, frames=FRAMES, rows=rows, cache=cache, **same) as reader:
            found = []
            for batch in reader.batches(first_steps[rank], 20):
                found.append(content(batch))
                time.sleep(rank * pause_ms / 1000)
            return found

    with watched(folder) as seen, ThreadPoolExecutor(n) as pool:
        futures = [pool.submit(one_rank, rank) for rank in range(n)]
        for rank, future in enumerate(futures):
            rows = range(3 * rank, 3 * rank + 3)
            expected = read(local, 20, first_steps[rank], rows=rows, **same)
            assert future.result(timeout=HANG_S) == expected
    assert max(seen) <= budget
    assert not list(folder.glob("*/.shard-*"))
    shutil.rmtree(folder)


def test_another_set_makes_room_but_only_if_it_must_and_is_not_open(
    local: Path, in_memory: str, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    old = tmp_path / "other" / "shard-000000.tar"
    old.write_bytes(bytes(1_000_000))
    together = sum(sizes_of(local)) + 1_000_000
    with old.open() as used:
        fcntl.flock(used, fcntl.LOCK_SH)
        read(in_memory, STEPS, cache=CacheOptions(folder=tmp_path, max_bytes=together - 1))
        assert old.exists()
    read(in_memory, STEPS, cache=CacheOptions(folder=tmp_path, max_bytes=together))
    assert old.exists()
    read(in_memory, STEPS, cache=CacheOptions(folder=tmp_path, max_bytes=together - 1))
    assert not old.exists()


def folders_used(root: Path) -> set[str]:
    return {path.parent.parent.name for path in root.glob("*/*/shard-*.tar")}


def test_a_second_run_at_the_same_time_takes_a_folder_of_its_own(
    local: Path, in_memory: str, tmp_path: Path
) -> None:
    cache = CacheOptions(folder=tmp_path / "cache", max_bytes=2 * max(sizes_of(local)))
    options = {"frames": FRAMES, "batch": 5, "block_shards": 2, "cache": cache}
    expected = read(local, STEPS)
    with watched(tmp_path / "cache") as seen, CropReader(in_memory, run="a", **options) as first:
        assert content(next(first.batches())) == expected[0]
        for other in ({"run": "b"}, {"run": "a", "seed": 3}):
            with CropReader(in_memory, **{**options, **other}) as second:
                assert len(list(second.batches(n_steps=20))) == 20
        assert folders_used(tmp_path) == {"cache", "cache-2"}
        assert [content(batch) for batch in first.batches(0, STEPS)] == expected
    assert max(seen) <= cache.max_bytes
    shutil.rmtree(tmp_path / "cache-2")
    with CropReader(in_memory, run="b", **options) as later:  # the first one has ended
        next(later.batches())
    assert folders_used(tmp_path) == {"cache"}


def test_runs_in_different_orders_share_a_folder_that_holds_the_whole_set(
    local: Path, in_memory: str, tmp_path: Path
) -> None:
    cache = CacheOptions(folder=tmp_path / "cache", max_bytes=sum(sizes_of(local)))
    options = {"frames": FRAMES, "batch": 5, "cache": cache}
    with (
        CropReader(in_memory, run="a", seed=1, **options) as first,
        CropReader(in_memory, run="b", seed=2, block_shards=2, **options) as second,
    ):
        pairs = zip(first.batches(n_steps=STEPS), second.batches(n_steps=STEPS), strict=True)
        found = [[content(one), content(two)] for one, two in pairs]
    assert [one for one, _ in found] == read(local, STEPS, seed=1, block_shards=0)
    assert [two for _, two in found] == read(local, STEPS, seed=2)
    assert folders_used(tmp_path) == {"cache"}


def test_a_smaller_budget_is_kept_from_the_first_moment(
    local: Path, in_memory: str, tmp_path: Path
) -> None:
    read(in_memory, 18, cache=CacheOptions(folder=tmp_path))
    budget = sum(sizes_of(local)) // 3
    CropReader(
        in_memory, frames=FRAMES, batch=5, block_shards=2,
        cache=CacheOptions(folder=tmp_path, max_bytes=budget),
    ).close()  # fmt: skip
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*")) <= budget


def test_a_budget_below_one_block_is_refused_with_the_number_that_does(
    local: Path, in_memory: str, tmp_path: Path
) -> None:
    sizes = sorted(sizes_of(local))
    cache = CacheOptions(folder=tmp_path, max_bytes=sum(sizes[-5:]))
    pattern = (
        rf"{cache.max_bytes} bytes is too small for memory://.*, whose order mixes all 12 shards: "
        rf"give it at least max_bytes={sum(sizes)}, or mix fewer shards: block_shards=2, another"
    )
    with pytest.raises(UserError, match=pattern):
        read(in_memory, 1, block_shards=0, cache=cache)
    assert read(in_memory, 3, block_shards=2, cache=cache) == read(local, 3)
    with pytest.raises(UserError, match=rf"max_bytes={sizes[-1]}$"):
        read(in_memory, 1, block_shards=1, cache=CacheOptions(folder=tmp_path, max_bytes=9))


def test_a_folder_that_cannot_be_made_is_one_line(in_memory: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be used as a cache \(Not a directory\); name"):
        read(in_memory, 1, cache=CacheOptions(folder=tmp_path / "file"))


def test_the_cache_of_a_user_is_the_default(
    in_memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    read(in_memory, 1)
    fingerprint = open_shards(in_memory).fingerprint
    assert list(tmp_path.glob(f"audio-barlow-twins/shards/{fingerprint}/shard-*.tar"))


@given(
    sizes=st.lists(st.integers(0, 3), min_size=1, max_size=9).filter(any),
    block_shards=st.integers(1, 9),
    now=st.integers(0, 40),
)
def test_shards_are_requested_in_the_order_in_which_their_clips_come(
    sizes: list[int], block_shards: int, now: int
) -> None:
    order = Order(index(sizes), frames=1, block_shards=block_shards)
    # The plain way: walk through the crops of two epochs until each shard has come.
    n, epoch = sum(sizes), now // order.n_blocks
    crops = order.crops(np.arange(epoch * n, (epoch + 2) * n))
    needed_at: dict[int, int] = {}
    for shard, block in zip(crops.shards.tolist(), blocks_of(order, crops), strict=True):
        if block >= now:
            needed_at.setdefault(shard, block)
    requests = shard_requests(order, now)
    assert dict(requests) == needed_at
    assert len(requests) == len(needed_at) == np.count_nonzero(sizes)
    blocks = [request.needed_at for request in requests]
    assert blocks == sorted(blocks)


def blocks_of(order: Order, crops: Crops) -> list[int]:
    """Return the block of each crop; the runs of `by_block` are longest and cover all crops."""
    runs = list(order.by_block(crops))
    assert all(one != two for (one, _), (two, _) in pairwise(runs))
    return [block for block, rows in runs for _ in range(len(crops.clips))[rows]]


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=9), block_shards=st.integers(1, 9))
def test_blocks_follow_each_other_in_the_order_of_the_crops(
    sizes: list[int], block_shards: int
) -> None:
    order = Order(index(sizes), frames=1, block_shards=block_shards)
    crops = order.crops(np.arange(3 * sum(sizes)))
    blocks = np.array(blocks_of(order, crops))
    assert sorted(blocks) == blocks.tolist()
    assert sorted(set(blocks)) == list(range(3 * order.n_blocks))
    shards = [set(crops.shards[blocks == block].tolist()) for block in range(order.n_blocks)]
    assert sorted(map(len, shards))[1:] == [block_shards] * (order.n_blocks - 1)
    assert set.union(*shards) == set(range(len(sizes)))

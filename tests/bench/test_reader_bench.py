"""The bench: what is timed delivers the right crops, and the ratios are those of the rates."""

import importlib
import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import get_args

import numpy as np
import pytest
import reader_ours
import torch
from making import write_set
from reader_bench import Bench, all_ways
from reader_clock import (
    Heat,
    Way,
    cool,
    files_of,
    heat,
    in_memory,
    in_own_process,
    missing,
    python_busy,
    started,
    time_cold,
    time_warm,
)
from reader_columns import COPIES
from reader_figure import draw
from reader_files import TwoViews, fade, per_file_ways, resize_crop
from reader_libraries import library_ways
from reader_ours import (
    BARE,
    DEPTHS,
    OURS,
    OURS_VIEWS,
    PLAN_STEPS,
    THREADS,
    WAVES,
    bare_loops,
    bare_name,
    our_ways,
    stall,
)
from reader_report import VIEWS, Found, Rates, ratios, report
from reader_tars import keep_shards, view_npy
from slow_storage import slow_storage

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.form import logmel_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.shardset import ShardSet, open_shards
from audio_barlow_twins.shards.stored.synthetic import synthetic_shards

N_CLIPS, LENGTH, FRAMES = 400, 200, 96
CROP_WAYS = [*library_ways(), *per_file_ways(0, 1)[:-1]]


def clip_of(number: int) -> np.ndarray:
    """Make a clip whose every frame says of which clip and where in it it is, [200, 64]."""
    clip = np.random.default_rng(number).normal(size=(LENGTH, 64)).astype(np.float16)
    clip[:, 0], clip[:, 1] = number, np.arange(LENGTH)
    return clip


@pytest.fixture(scope="module")
def shard_set(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    shards = [
        {f"clip{n:04d}": clip_of(n) for n in range(begin, begin + 100)}
        for begin in range(0, N_CLIPS, 100)
    ]
    folder = tmp_path_factory.mktemp("bench") / "shards"
    return open_shards(write_set(folder, logmel_form(FrontEnd()), shards))


def files_for(way: Way, shard_set: ShardSet) -> Path:
    """Write the files of a way, once; skip the test if the way cannot run here."""
    if lack := in_own_process(missing, way):
        pytest.skip(lack)
    folder = shard_set.folder.with_name(way.form)
    if not folder.exists():
        folder.mkdir()
        in_own_process(way.write, shard_set, folder)
    return folder


def a_pass(way: Way, folder: Path, workers: int) -> list[np.ndarray]:
    """Run in a process of its own, as the bench does: libraries set globals when imported."""
    return [batch.numpy() for batch in way.batches(folder, workers)]


def read(batches: Iterable[np.ndarray]) -> tuple[list[int], list[int]]:
    """Compare all crops with the clips they say they are of; return their clips and starts."""
    clips, starts = [], []
    for crop in np.concatenate([batch.copy() for batch in batches]):
        clip, start = int(crop[0, 0]), int(crop[0, 1])
        np.testing.assert_array_equal(crop, clip_of(clip)[start : start + FRAMES])
        clips.append(clip)
        starts.append(start)
    return clips, starts


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("way", CROP_WAYS, ids=lambda way: way.name)
class TestWay:
    """What holds for every library and for a file a clip."""

    def test_a_pass_has_a_random_crop_of_every_clip_in_random_order(
        self, way: Way, workers: int, shard_set: ShardSet
    ) -> None:
        batches = in_own_process(a_pass, way, files_for(way, shard_set), workers)
        clips, starts = read(batches)
        copies = COPIES if way.form == "parquet" else 1
        assert sorted(clips) == sorted(copies * list(range(N_CLIPS)))
        assert clips != sorted(clips)
        assert 60 < len(set(starts)) <= LENGTH - FRAMES + 1  # of 105; 400 draws leave 2 or 3 out
        assert {(tuple(batch.shape[1:]), batch.dtype) for batch in batches} == {
            ((FRAMES, 64), np.dtype(np.float16))
        }
        assert len(batches[0]) == 128


def of_ours(name: str) -> Way:
    return next(way for way in our_ways(ahead=2) if way.name == name)


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_a_file_in_memory_is_viewed_as_numpy_loads_it(version: tuple[int, int]) -> None:
    file, clip = BytesIO(), clip_of(7)
    np.lib.format.write_array(file, clip, version)
    view = view_npy(file.getvalue())
    np.testing.assert_array_equal(view, clip)
    assert view.dtype == clip.dtype
    assert view.base is not None


def test_a_clip_by_columns_is_not_taken_for_one_by_rows() -> None:
    file = BytesIO()
    np.save(file, np.asfortranarray(clip_of(7)))
    with pytest.raises(ValueError, match="by columns"):
        view_npy(file.getvalue())


@pytest.mark.parametrize("endless", [True, False])
def test_the_bare_loop_reads_what_the_reader_reads(shard_set: ShardSet, endless: bool) -> None:
    way = of_ours(OURS)
    ours = (way.batches if endless else way.one_pass)(shard_set.folder, 0)
    bare = bare_loops(1, shard_set.folder, 0, endless=endless)
    some = 12 if endless else None
    for batch, expected in zip(islice(bare, some), islice(ours, some), strict=True):
        torch.testing.assert_close(batch, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", [*map(bare_name, THREADS), OURS])
def test_a_pass_reads_every_batch_once(shard_set: ShardSet, name: str) -> None:
    before, a_pass = threading.active_count(), of_ours(name).one_pass
    ready, *batches = [batch.clone() for batch in a_pass(shard_set.folder, 0)]
    assert len(ready) == 0
    clips, _ = read(batch.numpy() for batch in batches)
    assert len(set(clips)) == len(clips) == N_CLIPS // 128 * 128
    started(a_pass(shard_set.folder, 0), 2).close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", THREADS)
def test_bare_loops_go_on_endlessly(shard_set: ShardSet, threads: int) -> None:
    before = threading.active_count()
    loops = of_ours(bare_name(threads)).batches(shard_set.folder, 0)
    for batch in islice(loops, 1, 2 * PLAN_STEPS // 16, 16):
        read([batch[:1].numpy()])
    loops.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_the_reader_reads_every_clip_once_an_epoch(shard_set: ShardSet) -> None:
    batches = islice(of_ours(OURS).batches(shard_set.folder, 0), 1, 5)
    clips, _ = read(batch.numpy() for batch in batches)
    assert sorted(clips[:N_CLIPS]) == list(range(N_CLIPS))


def test_our_views_are_two_different_ones_of_every_crop(shard_set: ShardSet) -> None:
    batches = of_ours(OURS_VIEWS).batches(shard_set.folder, 0)
    views = next(islice(batches, 1, None)).numpy()
    assert views.shape == (128, 2, FRAMES, 64)
    assert np.abs(views[:, 0] - views[:, 1]).max(axis=(1, 2)).min() > 0.01


def test_views_on_the_cpu_are_two_different_ones_of_every_crop(shard_set: ShardSet) -> None:
    way = per_file_ways(mean=100.0, std=100.0)[-1]
    views = np.concatenate(in_own_process(a_pass, way, files_for(way, shard_set), 2))
    assert views.shape == (N_CLIPS, 2, FRAMES, 64)
    assert views.dtype == np.float32
    assert np.abs(views[:, 0] - views[:, 1]).max(axis=(1, 2)).min() > 0.01


def test_mixing_a_crop_with_itself_changes_nothing() -> None:
    views, x = TwoViews(0, 1), torch.randn(FRAMES, 64)
    views.bank.append(x)
    torch.testing.assert_close(views.mix(x), x, atol=1e-5, rtol=1e-5)


def test_a_mixed_crop_holds_up_to_a_fifth_of_another() -> None:
    views = TwoViews(0, 1)
    views.bank.append(torch.full((FRAMES, 64), 0.0))
    powers = [float(views.mix(torch.full((FRAMES, 64), -20.0)).exp().mean()) for _ in range(200)]
    assert 0 <= min(powers) < 0.02
    assert 0.18 < max(powers) <= 0.2 + 1e-6


def test_resizing_keeps_what_is_alike_in_all_mels_alike() -> None:
    random.seed(0)
    x = torch.randn(FRAMES, 1).expand(FRAMES, 64)
    for _ in range(20):
        resized = resize_crop(x)
        assert resized.shape == x.shape
        torch.testing.assert_close(resized, resized[:, :1].expand_as(resized))


def test_resizing_turns_a_slope_over_mels_into_a_gentler_one() -> None:
    random.seed(0)
    x = torch.linspace(0, 1, 64).expand(FRAMES, 64)
    middles = [resize_crop(x)[48] for _ in range(200)]  # edges are clamped
    slopes = [float(middle[56] - middle[8]) * 63 / 48 for middle in middles]
    assert 0.58 < min(slopes) < 0.65
    assert max(slopes) == pytest.approx(1)


def test_a_window_begins_before_the_clip_or_ends_behind_it_or_lies_inside() -> None:
    random.seed(0)
    windows = [resize_crop(torch.ones(FRAMES, 64))[:, 0] for _ in range(200)]
    ends = {(bool(window[0] > 0.5), bool(window[-1] > 0.5)) for window in windows}
    assert ends == {(False, True), (True, False), (True, True), (False, False)}


def test_a_fader_adds_a_straight_line_between_ends_within_one() -> None:
    lines = torch.stack([fade(torch.zeros(FRAMES, 64)) for _ in range(200)])
    assert lines.diff(n=2, dim=1).abs().max() < 1e-5
    assert lines.diff(dim=2).abs().max() == 0
    assert 0.9 < lines[:, 0].max() <= 1
    assert -1 <= lines[:, -1].min() < -0.9


def test_cooled_files_are_not_in_memory_until_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "clip"
    path.parent.mkdir()
    path.write_bytes(bytes(100_000))
    try:
        cool(tmp_path)
    except UserError:
        pytest.skip("the folder for temporary files lies in memory")
    assert in_memory(path) == 0
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        os.pread(file.fileno(), 1, 4096 * 20)
    assert 0 < in_memory(path) < 0.5
    heat(tmp_path)
    assert in_memory(path) == 1


def test_files_that_cannot_leave_memory_are_not_passed_off_as_cold() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        (Path(folder) / "clip").write_bytes(bytes(5000))
        with pytest.raises(UserError, match="--no-cold"):
            cool(Path(folder))


def one_batch(folder: Path, workers: int) -> list[torch.Tensor]:
    return [torch.zeros(128, 1, 1)]


def test_a_pass_that_is_all_start_cannot_be_timed(tmp_path: Path) -> None:
    way = Way(name="short", batches=one_batch, write=keep_shards, form="shards")
    with pytest.raises(UserError, match="more than 8 batches"):
        time_warm(way, tmp_path, 0, 0.1, N_CLIPS)


def test_a_cold_timing_reads_no_clip_twice_in_a_pass(shard_set: ShardSet) -> None:
    taken: list[list[int]] = []

    def counted(folder: Path, workers: int) -> Iterable[torch.Tensor]:
        taken.append([])
        for batch in bare_loops(1, folder, workers):
            taken[-1].append(len(batch))
            yield batch

    way = Way(name="endless", batches=counted, write=keep_shards, form="shards")
    assert time_cold(way, shard_set.folder, 0, 0.3, N_CLIPS) > 0
    assert len(taken) > 1  # passes, until the time was over
    assert all(0 < sum(lengths) <= N_CLIPS for lengths in taken)


def test_warm_files_are_timed_over_an_endless_stream_and_over_passes(tmp_path: Path) -> None:
    def endless(folder: Path, workers: int) -> Iterable[torch.Tensor]:
        while True:
            time.sleep(0.001)
            yield torch.zeros(100, 1, 1)

    def passes(folder: Path, workers: int) -> Iterable[torch.Tensor]:
        return OfPasses()

    for batches in (endless, passes):
        way = Way(name="timed", batches=batches, write=keep_shards, form="shards")
        assert 100 < time_warm(way, tmp_path, 0, 0.3, 4000) < 100_000


class OfPasses:
    """Forty batches a pass."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        for _ in range(40):
            time.sleep(0.001)
            yield torch.zeros(100, 1, 1)


def test_python_is_kept_busy_a_third_of_the_time() -> None:
    with python_busy(False):
        quiet = threading.active_count()
    begin = time.process_time(), time.perf_counter()
    with python_busy(True):
        assert threading.active_count() == quiet + 1
        time.sleep(0.5)
    used = (time.process_time() - begin[0]) / (time.perf_counter() - begin[1])
    assert 0.1 < used < 0.5  # less on a busy machine, which wakes it late
    assert threading.active_count() == quiet


def test_a_network_waits_for_what_storage_does_not_give(
    shard_set: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_ours, "cool", lambda folder: None)
    folder, per_s = shard_set.folder, 1000.0
    assert stall(folder, 4, per_s, 0.5) < 0.2  # from memory
    with slow_storage(0.004, depth=1, heeds=False):  # 250 crops/s at the very best
        assert 0.4 < stall(folder, 4, per_s, 0.5) < 0.9


def test_storage_that_is_simulated_takes_its_time(shard_set: ShardSet) -> None:
    with slow_storage(0.02, depth=2) as storage:
        file = os.open(shard_set.folder / "shard-000000.tar", os.O_RDONLY)
        begin = time.perf_counter()
        assert os.pread(file, 100, 4000) == storage._pread(file, 100, 4000)
        for offset in range(5000, 5004):
            os.posix_fadvise(file, offset, 100, os.POSIX_FADV_WILLNEED)
        assert 0.02 <= time.perf_counter() - begin < 0.06  # one wait
        with pytest.raises(BlockingIOError):
            os.preadv(file, [bytearray(9)], 5003, os.RWF_NOWAIT)
        assert os.preadv(file, [bytearray(9)], 5003) == 9
        assert time.perf_counter() - begin >= 0.06  # two more: two of four at a time
        assert os.preadv(file, [bytearray(9)], 5003, os.RWF_NOWAIT) == 9
        assert storage.requests == 5
        os.close(file)
    assert os.pread is storage._pread


def found_of(**rates: list[float]) -> Found:
    """Name warm rates by way; the library F is slower without workers, and fast from cold files."""
    names = {"ours": OURS, "bare": BARE, "views": VIEWS, "slow": "S", "fast": "F"}
    warm: Rates = {
        (names[name], 2 * (name == "fast"), "warm"): values for name, values in rates.items()
    }
    warm["F", 0, "warm"] = [1.0, 1.0, 1.0]
    libraries = [
        Way(name=name, batches=one_batch, write=keep_shards, form="x", imports=no_such_library)
        for name in ("S", "F")
    ]
    return Found(ways=libraries, lacks={}, ahead=4, rates=warm)


ALL = {
    "ours": [400.0, 300.0, 200.0], "bare": [500.0, 500.0, 200.0], "views": [2.0, 2.0, 2.0],
    "slow": [5.0, 5.0, 5.0], "fast": [10.0, 20.0, 10.0],
}  # fmt: skip


def test_ratios_are_medians_over_the_rounds_to_the_fastest_at_its_best() -> None:
    found = found_of(**ALL)
    cold = {OURS: [90.0, 80.0, 70.0], BARE: [10.0] * 3, bare_name(16): [100.0] * 3, "F": [50.0] * 3}
    found.rates |= {(name, 0, "cold"): values for name, values in cold.items()}
    found.whole, found.disk = [45, 80, 10], [50, 100, 50]
    by_name = {ratio.what: ratio for ratio in ratios(found)}
    expected = {
        f"warm: {OURS} / {BARE}": (0.8, 0.8),  # of 0.8, 0.6 and 1
        f"cold: {OURS} / {bare_name(16)}": (0.8, 0.95),
        f"cold: {OURS} / F": (1.6, 1.0),
        f"warm: {OURS} / F": (20, 0),  # of 40, 15 and 20
        "cold: whole shards / files in order, MB/s": (0.8, 0.8),  # of 0.9, 0.8 and 0.2
    }
    assert {name: (by_name[name].median, by_name[name].goal) for name in expected} == expected


def test_a_ratio_says_whether_its_goal_is_met() -> None:
    lines = [str(ratio) for ratio in ratios(found_of(**ALL))]
    assert lines[0] == f"warm: {OURS} / {BARE}: 0.80 (0.60 to 1.00), goal 0.8: met"
    slower = str(ratios(found_of(**{**ALL, "ours": [1.0]}))[0])
    assert slower == f"warm: {OURS} / {BARE}: 0.00 (0.00 to 0.00), goal 0.8: NOT met"
    assert f"warm: {OURS} / F: 20.00 (15.00 to 40.00), no goal" in lines


def test_a_ratio_to_what_was_not_measured_is_not_made_up() -> None:
    lines = [str(ratio) for ratio in ratios(Found(ways=[], lacks={}, ahead=4))]
    assert {line.rsplit(": ", 1)[1].split(" (")[0] for line in lines} == {"not measured"}


def test_the_figure_has_a_bar_for_every_way(tmp_path: Path) -> None:
    found = found_of(**ALL)
    found.ways += our_ways(4)
    draw(found, tmp_path / "bench.svg")
    text = (tmp_path / "bench.svg").read_text()
    assert all(f"<!-- {name} -->" in text for name in ("S", "F", OURS, BARE))
    assert bare_name(64) not in text  # was not measured


def no_such_library() -> ModuleType:
    return importlib.import_module("no_such_library")


def test_a_library_that_is_not_installed_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    way = Way(name="Else", imports=no_such_library, batches=one_batch, write=keep_shards, form="x")
    report(Found(ways=[way], lacks={way.name: in_own_process(missing, way)}, ahead=4), None)
    assert "Else" in (text := capsys.readouterr().out)
    assert "not installed: No module named 'no_such_library'" in text


@pytest.mark.slow
def test_one_run_times_warm_and_cold_files_and_writes_all_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, figure = tmp_path / "new" / "bench.json", tmp_path / "drawn" / "bench.svg"
    Bench(quick=True, only=(OURS + WAVES,), folder=tmp_path, json=out, figure=figure).run()
    text, found = capsys.readouterr().out, json.loads(out.read_text())
    states = {(row["way"], row["files"]) for row in found["crops_per_s"]}
    assert {state for way, state in states if way == OURS + WAVES} == set(get_args(Heat))
    assert {way for way, _ in states} == {OURS + WAVES}
    assert all(min(row["rounds"]) > 0 for row in found["crops_per_s"])
    assert found["machine"]["torch"] == torch.__version__
    assert f"warm: {OURS + WAVES} / {BARE + WAVES}: not measured" in text
    assert found["memory_mb"] > 100
    assert files_of(tmp_path) == [figure, out]
    assert OURS + WAVES in figure.read_text()


@pytest.mark.slow
def test_only_our_reader_is_asked_for_stalls_and_depths(tmp_path: Path) -> None:
    shard_set = synthetic_shards(tmp_path / "shards", 1536)
    found = Found(ways=[], lacks={}, ahead=4, rates={(OURS, 0, "cold"): [10_000.0]})
    Bench(seconds=0.1).measure_ours(shard_set.folder, found)
    assert list(found.stalls) == ["55,000 crops/s", "0.8 of what comes", "0.9 of what comes"]
    assert all(0 <= share < 1 for shares in found.stalls.values() for share in shares)
    assert list(found.latency) == list(DEPTHS)
    rates = [rate for (rate,) in found.latency.values()]
    assert min(rates) > 0
    assert found.latency_ahead[0] >= 4
    assert found.whole[0] > 1


def test_every_way_has_a_name_of_its_own(shard_set: ShardSet) -> None:
    names = [way.name for way in all_ways(shard_set, ahead=4)]
    assert len(set(names)) == len(names)
    assert {BARE, OURS, OURS + WAVES, OURS_VIEWS, VIEWS} <= set(names)

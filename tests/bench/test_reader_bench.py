"""The bench: what is timed delivers the right crops, and the ratios are those of the rates."""

import importlib
import json
import os
import random
import tempfile
from collections.abc import Iterable
from io import BytesIO
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from making import write_set
from reader_bench import Bench, all_ways, bare_loop, crop_reader
from reader_clock import (
    Way,
    cool,
    files_of,
    heat,
    in_memory,
    in_own_process,
    missing,
    time_cold,
    time_warm,
)
from reader_columns import COPIES
from reader_files import TwoViews, fade, per_file_ways, resize_crop
from reader_libraries import library_ways
from reader_report import BARE, OURS, VIEWS, Rates, ratios, report
from reader_tars import keep_shards, view_npy

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.form import logmel_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.shardset import ShardSet, open_shards

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


def test_the_bare_loop_reads_what_the_reader_reads(shard_set: ShardSet) -> None:
    ours = islice(crop_reader(shard_set.folder, 0), 12)
    for bare, batch in zip(bare_loop(shard_set.folder, 0), ours, strict=False):
        torch.testing.assert_close(bare, batch, rtol=0, atol=0)


def test_the_reader_reads_every_clip_once_a_pass(shard_set: ShardSet) -> None:
    batches = islice(crop_reader(shard_set.folder, 0), 4)
    clips, _ = read(batch.numpy() for batch in batches)
    assert sorted(clips[:N_CLIPS]) == list(range(N_CLIPS))


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
        time_warm(way, tmp_path, 0, 0.1)


def test_a_cold_timing_reads_no_clip_twice(shard_set: ShardSet) -> None:
    taken = []

    def counted(folder: Path, workers: int) -> Iterable[torch.Tensor]:
        for batch in crop_reader(folder, workers):
            taken.append(len(batch))
            yield batch

    way = Way(name="ours", batches=counted, write=keep_shards, form="shards")
    assert time_cold(way, shard_set.folder, 0, 60, N_CLIPS) > 0
    assert N_CLIPS - 128 <= sum(taken) <= N_CLIPS


def rates_of(**warm: list[float]) -> Rates:
    """Name rates by way; the library F is slower without workers, and fast from cold files."""
    names = {"ours": OURS, "bare": BARE, "views": VIEWS, "slow": "S", "fast": "F"}
    rates: Rates = {
        (names[name], 2 * (name == "fast"), "warm"): values for name, values in warm.items()
    }
    rates["F", 0, "warm"] = [1.0, 1.0, 1.0]
    rates["F", 0, "cold"] = [9e9, 9e9, 9e9]
    return rates


ALL = rates_of(
    ours=[400, 300, 200], bare=[500, 500, 200], views=[2, 2, 2],
    slow=[5, 5, 5], fast=[10, 20, 10],
)  # fmt: skip


def test_ratios_are_medians_over_the_rounds_to_the_fastest_library_at_its_best() -> None:
    found = {(ratio.of, ratio.to): (ratio.median, ratio.goal) for ratio in ratios(ALL, ["S", "F"])}
    assert found == {
        (OURS, "F"): (20, 30),  # of 40, 15 and 20
        (OURS, VIEWS): (150, 150),
        (OURS, BARE): (0.8, 0.8),  # of 0.8, 0.6 and 1
    }


def test_a_ratio_says_whether_its_goal_is_met() -> None:
    lines = [str(ratio) for ratio in ratios(ALL, ["S", "F"])]
    assert [line.endswith("NOT met") for line in lines] == [True, False, False]
    assert lines[0] == f"{OURS} / F: 20.00 (15.00 to 40.00), goal 30: NOT met"


def test_a_ratio_to_what_was_not_measured_is_not_made_up() -> None:
    lines = [str(ratio) for ratio in ratios(rates_of(ours=[400.0]), [])]
    assert [line.split(": ")[1].split(" (")[0] for line in lines] == ["not measured"] * 3


def no_such_library() -> ModuleType:
    return importlib.import_module("no_such_library")


def test_a_library_that_is_not_installed_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    way = Way(name="Else", imports=no_such_library, batches=one_batch, write=keep_shards, form="x")
    lack = in_own_process(missing, way)
    report([way], {way.name: lack}, {}, [], None)
    assert "Else" in (text := capsys.readouterr().out)
    assert "not installed: No module named 'no_such_library'" in text


@pytest.mark.slow
def test_one_run_times_warm_and_cold_files_and_writes_all_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    Bench(quick=True, only=("CropReader", "bare"), folder=tmp_path, json=out).run()
    text, found = capsys.readouterr().out, json.loads(out.read_text())
    assert {(row["way"], row["files"]) for row in found["crops_per_s"]} == {
        (way, files) for way in (OURS, BARE) for files in ("warm", "cold")
    }
    assert all(min(row["rounds"]) > 0 for row in found["crops_per_s"])
    assert found["machine"]["torch"] == torch.__version__
    assert f"{OURS} / {BARE}: {found['ratios'][2]['values'][0]:.2f}" in text
    assert files_of(tmp_path) == [out]


def test_every_way_has_a_name_of_its_own(shard_set: ShardSet) -> None:
    names = [way.name for way in all_ways(shard_set)]
    assert len(set(names)) == len(names)
    assert {BARE, OURS, VIEWS} <= set(names)

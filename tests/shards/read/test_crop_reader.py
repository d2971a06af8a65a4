"""The crop reader against plain slices of the stored arrays."""

import json
import os
import shutil
import threading
import time
from collections import deque
from contextlib import ExitStack, suppress
from itertools import chain, cycle, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from making import arrays_of, noise, noise_set, python, small_form, write_set

from audio_barlow_twins.shards.base.ahead import Background
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.read import reader as reader_module
from audio_barlow_twins.shards.read.local import read_cached
from audio_barlow_twins.shards.read.reader import Batch, CropReader
from audio_barlow_twins.shards.stored.shardset import open_shards
from audio_barlow_twins.shards.stored.sidecar import read_rows

LENGTHS = [[30, 5, 64, 200], [1, 90], [31, 32, 33, 100, 7]]
N_CLIPS = 11
kinds = st.sampled_from(["wave", "logmel"])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A set of each kind, with clips shorter and longer than the crops."""
    root = tmp_path_factory.mktemp("sets")
    return {kind: noise_set(root / kind, small_form(kind), LENGTHS) for kind in ("wave", "logmel")}


@pytest.fixture(scope="module")
def arrays(folders: dict[str, Path]) -> dict[str, list[np.ndarray]]:
    return {kind: arrays_of(folder) for kind, folder in folders.items()}


def slices(batch: Batch, arrays: list[np.ndarray]) -> np.ndarray:
    """Cut the crops of a batch out of the arrays, zeros behind short clips."""
    crops = np.zeros(batch.crops.shape, arrays[0].dtype)
    for crop, clip, start in zip(crops, batch.clips.tolist(), batch.starts.tolist(), strict=True):
        part = arrays[clip][start : start + len(crop)]
        crop[: len(part)] = part
    return crops


def content(batch: Batch) -> list[list]:
    """Return what a batch holds, a list of its rows each; quicker than `tolist` of all samples."""
    numbers = [part.tolist() for part in (batch.clips, batch.epochs, batch.starts)]
    return [[crop.tobytes().hex() for crop in batch.crops.numpy()], *numbers]


@settings(max_examples=60)
@given(
    kind=kinds,
    frames=st.integers(1, 120),
    batch=st.integers(1, 30),
    seed=st.integers(0, 999),
    first_step=st.integers(0, 300),
    block_shards=st.integers(0, 3),
)
def test_crops_are_slices_of_the_stored_arrays(
    folders: dict[str, Path],
    arrays: dict[str, list[np.ndarray]],
    kind: str,
    frames: int,
    batch: int,
    seed: int,
    first_step: int,
    block_shards: int,
) -> None:
    with CropReader(
        folders[kind], frames=frames, batch=batch, seed=seed, block_shards=block_shards
    ) as reader:
        batches = list(reader.batches(first_step, n_steps=1))
        for read in reader.batches(first_step, n_steps=20):
            np.testing.assert_array_equal(read.crops.numpy(), slices(read, arrays[kind]))
            batches.append(read)
    assert len(batches) == 21
    assert batches[0].crops.dtype == (torch.int16 if kind == "wave" else torch.float16)
    assert batches[0].crops.shape == (batch, frames) + ((4,) if kind == "logmel" else ())


def test_padding_is_zero_also_where_a_longer_clip_lay_before(
    folders: dict[str, Path], arrays: dict[str, list[np.ndarray]]
) -> None:
    seen: list[set[bool]] = [set() for _ in range(2)]
    with CropReader(folders["wave"], frames=64, batch=2, ahead=0, hold=1) as reader:
        for batch in reader.batches(n_steps=100):
            np.testing.assert_array_equal(batch.crops.numpy(), slices(batch, arrays["wave"]))
            for i, clip in enumerate(batch.clips.tolist()):
                seen[i].add(len(arrays["wave"][clip]) < 64)
    assert seen == [{True, False}] * 2  # both rows held short and long clips in the same memory


@pytest.mark.parametrize("pin", [False, True])
def test_memory_is_pinned_only_if_asked_for_as_that_starts_cuda(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, pin: bool
) -> None:
    pinned: list[bool] = []
    zeros = torch.zeros

    def noting(*shape: int, pin_memory: bool, **options: Any) -> torch.Tensor:
        pinned.append(pin_memory)
        return zeros(*shape, **options)

    monkeypatch.setattr(torch, "zeros", noting)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with CropReader(folders["wave"], frames=4, batch=3, ahead=4, hold=1, pin=pin) as reader:
        next(reader.batches())
    assert pinned == [pin] * 3  # half of what is read ahead is only announced


def test_every_clip_comes_once_an_epoch_whatever_the_batch(folders: dict[str, Path]) -> None:
    with CropReader(folders["wave"], frames=4, batch=3) as reader:
        clips = np.concatenate([batch.clips for batch in reader.batches(n_steps=2 * N_CLIPS)])
        epochs = np.concatenate([batch.epochs for batch in reader.batches(n_steps=2 * N_CLIPS)])
    assert epochs.tolist() == sorted(list(range(6)) * N_CLIPS)
    for epoch in range(6):
        assert sorted(clips[epochs == epoch].tolist()) == list(range(N_CLIPS))


@settings(max_examples=30)
@given(cuts=st.sets(st.integers(1, 11)), first_step=st.integers(0, 100))
def test_readers_of_some_rows_read_together_what_one_reads(
    folders: dict[str, Path], cuts: set[int], first_step: int
) -> None:
    def read(rows: range | None) -> list[list]:
        with CropReader(folders["logmel"], frames=20, batch=12, rows=rows) as reader:
            return [content(b) for b in reader.batches(first_step, n_steps=5)]

    edges = [0, *sorted(cuts), 12]
    parts = [read(range(begin, end)) for begin, end in pairwise(edges)]
    for step, whole in enumerate(read(None)):
        pieces = [part[step] for part in parts]
        assert [list(chain(*values)) for values in zip(*pieces, strict=True)] == whole


@given(first_step=st.integers(0, 200))
@settings(max_examples=20)
def test_starting_at_a_step_is_skipping_the_steps_before(
    folders: dict[str, Path], first_step: int
) -> None:
    with CropReader(folders["wave"], frames=20, batch=3) as reader:
        skipped = [content(b) for b in islice(reader.batches(), first_step, first_step + 4)]
        assert [content(b) for b in reader.batches(first_step, n_steps=4)] == skipped


def test_the_billionth_step_is_as_near_as_the_first(
    folders: dict[str, Path], arrays: dict[str, list[np.ndarray]]
) -> None:
    with CropReader(folders["wave"], frames=20, batch=8) as reader:
        batch = next(iter(reader.batches(10**9)))
        np.testing.assert_array_equal(batch.crops.numpy(), slices(batch, arrays["wave"]))
        assert batch.epochs[0] == 8 * 10**9 // N_CLIPS


@settings(max_examples=30)
@given(ahead=st.integers(0, 12), hold=st.integers(1, 4))
def test_buffers_change_nothing(folders: dict[str, Path], ahead: int, hold: int) -> None:
    plain = CropReader(folders["logmel"], frames=40, batch=5, ahead=0)
    other = CropReader(folders["logmel"], frames=40, batch=5, ahead=ahead, hold=hold)
    with plain, other:
        steps = zip(plain.batches(5, 80), other.batches(5, 80), strict=True)
        assert all(content(one) == content(two) for one, two in steps)


@settings(max_examples=20)
@given(ahead=st.integers(0, 5), hold=st.integers(1, 4))
def test_a_batch_stays_intact_while_it_is_held_and_memory_is_reused(
    folders: dict[str, Path], arrays: dict[str, list[np.ndarray]], ahead: int, hold: int
) -> None:
    held: deque[Batch] = deque(maxlen=hold)
    places = set()
    with CropReader(folders["wave"], frames=50, batch=4, ahead=ahead, hold=hold) as reader:
        for batch in reader.batches(n_steps=30):
            held.append(batch)
            places.add(batch.crops.data_ptr())
            time.sleep(0.0005)  # the thread fills what it may fill
            for kept in held:
                np.testing.assert_array_equal(kept.crops.numpy(), slices(kept, arrays["wave"]))
    assert hold <= len(places) <= ahead + hold


@settings(max_examples=20)
@given(
    kind=kinds,
    answers=st.lists(st.booleans(), min_size=1, max_size=20),
    ahead=st.integers(0, 5),
    batch=st.integers(1, 20),
)
def test_what_is_read_at_once_and_what_later_are_the_same_crops(
    folders: dict[str, Path],
    arrays: dict[str, list[np.ndarray]],
    kind: str,
    answers: list[bool],
    ahead: int,
    batch: int,
) -> None:
    turns = cycle(answers)

    def some(*arguments: Any) -> int:
        return read_cached(*arguments) if next(turns) else -1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_module, "read_cached", some)
        with CropReader(folders[kind], frames=40, batch=batch, ahead=ahead) as reader:
            for got in reader.batches(3, n_steps=30):
                np.testing.assert_array_equal(got.crops.numpy(), slices(got, arrays[kind]))


def test_cold_crops_are_announced_once_and_before_they_are_read(tmp_path: Path) -> None:
    form, events = small_form("wave"), list[tuple[str, int]]()
    clips = {f"clip{i}": noise(form, 10_000, i) for i in range(64)}
    write_set(tmp_path, form, [clips])
    preadv, fadvise = os.preadv, os.posix_fadvise

    def reading(file: int, row: list[memoryview], offset: int, flags: int = 0) -> int:
        if flags:
            raise BlockingIOError
        events.append(("read", offset))
        return preadv(file, row, offset)

    def announcing(file: int, offset: int, size: int, advice: int) -> None:
        if advice == os.POSIX_FADV_WILLNEED:
            assert size == 2000
            events.append(("announce", offset))
        fadvise(file, offset, size, advice)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "preadv", reading)
        patch.setattr(os, "posix_fadvise", announcing)
        with CropReader(tmp_path, frames=1000, batch=4, ahead=5) as reader:
            list(reader.batches(n_steps=16))
    announced = [offset for what, offset in events if what == "announce"]
    assert announced == [offset for what, offset in events if what == "read"]
    assert len(set(announced)) == len(announced) == 64
    # Three batches are on their way while the first of them is read.
    assert [what for what, _ in events[:17]] == ["announce"] * 16 + ["read"]


def test_a_newer_sequence_of_batches_takes_the_place_of_the_one_before(
    folders: dict[str, Path],
) -> None:
    with CropReader(folders["wave"], frames=20, batch=8, ahead=2) as reader:
        early = reader.batches()
        first = content(next(early))
        late = reader.batches(5)
        assert content(next(late)) == next(content(b) for b in reader.batches(5, n_steps=1))
        for stale in (early, late):
            with pytest.raises(ValueError, match="has begun to read from another step"):
                list(islice(stale, 9))  # what was read before comes first
        assert content(next(reader.batches())) == first
        assert not crop_threads()


def crop_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("crops")]


def test_leaving_the_loop_early_ends_the_threads(folders: dict[str, Path]) -> None:
    with CropReader(folders["wave"], frames=20, batch=8) as reader:
        for n, _ in enumerate(reader.batches()):
            assert crop_threads()
            if n == 3:
                break
        assert not crop_threads()
        iterator = reader.batches()
        next(iterator)
        iterator.close()  # type: ignore[attr-defined]
        assert not crop_threads()


def test_an_error_in_the_loop_ends_the_threads(folders: dict[str, Path]) -> None:
    def train() -> None:
        with CropReader(folders["wave"], frames=20, batch=8) as reader:
            for _ in reader.batches():
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        train()
    del caught
    assert not crop_threads()


def open_tars(folder: Path) -> int:
    """Count open descriptors of a set's tars alone: Arrow may hold sidecars for a while."""
    tars = {os.stat(path)[1:3] for path in folder.glob("*.tar")}
    count = 0
    for descriptor in range(256):
        with suppress(OSError):
            count += os.fstat(descriptor)[1:3] in tars
    return count


def test_a_reader_that_was_left_has_closed_its_files(folders: dict[str, Path]) -> None:
    with CropReader(folders["wave"], frames=20, batch=8) as reader:
        list(reader.batches(n_steps=3))
        assert open_tars(folders["wave"]) == len(LENGTHS)
    assert open_tars(folders["wave"]) == 0


def test_a_reader_that_is_closed_while_it_is_iterated_closes_its_files_and_says_so(
    folders: dict[str, Path],
) -> None:
    reader = CropReader(folders["wave"], frames=20, batch=8)
    batches = reader.batches()
    next(batches)
    reader.close()
    assert open_tars(folders["wave"]) == 0
    with pytest.raises(ValueError, match="the reader was closed while its batches were read"):
        list(batches)  # what was read before comes first
    assert not crop_threads()


def test_a_reader_that_is_closed_while_a_batch_is_waited_for_says_so(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class ClosedFirst(Background):
        def __next__(self) -> Any:
            if asked.pop(0):
                reader.close()
            return super().__next__()

    asked = [False, True]
    monkeypatch.setattr(reader_module, "Background", ClosedFirst)
    reader = CropReader(folders["wave"], frames=20, batch=8)
    batches = reader.batches()
    next(batches)
    with pytest.raises(ValueError, match="the reader was closed while its batches were read"):
        next(batches)


def test_what_a_closed_reader_still_delivers_is_from_no_file_that_took_the_place_of_its_own(
    folders: dict[str, Path], arrays: dict[str, list[np.ndarray]]
) -> None:
    for _ in range(20):
        reader = CropReader(folders["wave"], frames=20, batch=8, ahead=8)
        batches = reader.batches()
        next(batches)
        reader.close()
        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(Path("/dev/zero").open("rb"))
            stack.enter_context(suppress(ValueError))
            for batch in batches:
                np.testing.assert_array_equal(batch.crops.numpy(), slices(batch, arrays["wave"]))


def test_a_reader_that_nobody_holds_has_closed_its_files(folders: dict[str, Path]) -> None:
    reader = CropReader(folders["wave"], frames=20, batch=8)
    assert open_tars(folders["wave"]) == len(LENGTHS)
    del reader
    assert open_tars(folders["wave"]) == 0


def copy(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


@pytest.mark.parametrize("kind", ["wave", "logmel"])
def test_a_tar_that_is_cut_while_it_is_read_is_an_error_that_names_the_clip(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copy(folders[kind], tmp_path / "set")
    last = read_rows(folder / "shard-000001.parquet")[-1]
    assert last.offset is not None
    with CropReader(folder, frames=8, batch=3) as reader:
        os.truncate(folder / "shard-000001.tar", last.offset + 1)
        pattern = f"shard-000001.tar ends inside clip {last.key}; run `abt shards verify"
        with pytest.raises(UserError, match=pattern):
            list(reader.batches(n_steps=5))
    assert not crop_threads()


def test_a_tar_of_another_size_is_refused_before_anything_is_read(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copy(folders["logmel"], tmp_path / "set")
    size = (folder / "shard-000001.tar").stat().st_size
    os.truncate(folder / "shard-000001.tar", size - 1)
    with pytest.raises(UserError, match=f"{size - 1} bytes, written were {size}; run .* verify"):
        CropReader(folder, frames=8, batch=3)
    assert open_tars(folder) == 0


@pytest.mark.parametrize(
    "bad",
    [{"batch": 0}, {"frames": 0}, {"hold": 0}, {"rows": range(3, 3)}, {"rows": range(2, 4)}],
)
def test_arguments_that_make_no_sense_are_refused(
    folders: dict[str, Path], bad: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match="must be 1 or more"):
        CropReader(folders["logmel"], **{"frames": 8, "batch": 3, **bad})


def test_a_missing_tar_is_an_error_that_names_it_and_leaks_no_file(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copy(folders["wave"], tmp_path / "set")
    (folder / "shard-000002.tar").unlink()
    with pytest.raises(UserError, match=r"shard-000002\.tar: No such file"):
        CropReader(folder, frames=8, batch=3)
    assert open_tars(folder) == 0


def test_an_open_set_is_read_as_its_folder_is(folders: dict[str, Path]) -> None:
    readers = [
        CropReader(shards, frames=9, batch=4)
        for shards in (folders["wave"], str(folders["wave"]), open_shards(folders["wave"]))
    ]
    contents = [[content(b) for b in reader.batches(n_steps=4)] for reader in readers]
    for reader in readers:
        reader.close()
    assert contents[0] == contents[1] == contents[2]


def test_a_set_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        CropReader(tmp_path / "missing", frames=8, batch=3)


def test_an_empty_clip_is_read_as_zeros(tmp_path: Path) -> None:
    form = small_form("wave")
    write_set(tmp_path, form, [{"empty": noise(form, 0, 0), "full": np.ones(9, np.int16)}])
    with CropReader(tmp_path, frames=4, batch=2) as reader:
        for batch in reader.batches(n_steps=20):
            assert batch.crops.sum(1).tolist() == [4 * clip for clip in batch.clips.tolist()]


MANY = """
import json, resource, sys
from audio_barlow_twins.shards.read.reader import CropReader
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
readers = [CropReader(sys.argv[1], frames=4, batch=300) for _ in range(int(sys.argv[2]))]
print(json.dumps([next(reader.batches()).crops.sum().item() for reader in readers]))
"""


def test_a_set_with_more_shards_than_files_may_be_open_is_read(tmp_path: Path) -> None:
    form = small_form("wave")
    write_set(tmp_path, form, [{"a": np.ones(9, np.int16)}])
    for number in range(1, 300):
        for ending in ("tar", "parquet"):
            os.link(tmp_path / f"shard-000000.{ending}", tmp_path / f"shard-{number:06d}.{ending}")
    # Three readers of 300 shards, as a training run beside its evaluation might open them.
    output, errors = python("-c", MANY, str(tmp_path), "3").communicate()
    assert output, errors
    assert json.loads(output) == [1200, 1200, 1200]

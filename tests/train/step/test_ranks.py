"""Several processes that share a batch compute what one does with the whole batch."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rank_worker
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import HANG_S

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.read.reader import CropReader
from audio_barlow_twins.shards.stored.shardset import ShardSet
from audio_barlow_twins.train.step.ranks import AgreedError, Ranks, joined_ranks

WORKER = Path(rank_worker.__file__)
ROOT = WORKER.parents[2]


def run_ranks(world: int, *words: object) -> None:
    """Run the worker in `world` processes, as a launcher would start them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    common = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(WORKER), *map(str, words)]
    workers = [
        subprocess.Popen(command, env=os.environ | common | {"RANK": str(rank)})
        for rank in range(world)
    ]
    try:
        assert [worker.wait(timeout=HANG_S) for worker in workers] == [0] * world
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


Results = list[dict[str, Any]]


@pytest.fixture(scope="module")
def alone(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Compute everything in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    result = {
        "layers": rank_worker.layers(Ranks()),
        "steps": rank_worker.steps(Ranks(), shards, tmp_path_factory.mktemp("alone")),
    }
    torch.set_num_threads(threads)
    return result


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(2, marks=pytest.mark.slow, id="two"),
        pytest.param(3, id="three, unevenly"),
    ],
)
def shared(
    request: pytest.FixtureRequest, shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> Results:
    """Compute everything in several processes; return what each of them found."""
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(request.param, "compare", shards, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


@pytest.mark.parametrize("what", ["gathered", "y", "grad_x", "grads", "state"])
def test_batch_norm_and_dropout_see_the_whole_batch(
    shared: Results, alone: dict[str, Any], what: str
) -> None:
    for found in shared:
        torch.testing.assert_close(
            found["layers"][what], alone["layers"][what], rtol=1e-11, atol=1e-11
        )


def test_the_views_of_a_clip_do_not_depend_on_the_number_of_processes(
    shared: Results, alone: dict[str, Any]
) -> None:
    for found in shared:
        torch.testing.assert_close(
            found["steps"]["views"], alone["steps"]["views"], rtol=0, atol=1e-6
        )


def test_every_process_has_the_mixup_bank_of_one(shared: Results, alone: dict[str, Any]) -> None:
    for found in shared:
        assert torch.equal(found["steps"]["bank"], alone["steps"]["bank"])


@pytest.mark.parametrize("what", ["losses", "state", "optimiser"])
def test_three_steps_give_losses_weights_and_momentum_of_one_process(
    shared: Results, alone: dict[str, Any], what: str
) -> None:
    for found in shared:
        torch.testing.assert_close(found["steps"][what], alone["steps"][what], rtol=1e-5, atol=1e-6)


def test_all_processes_hold_the_same_weights_bit_for_bit(shared: Results) -> None:
    for found in shared[1:]:
        for name, value in shared[0]["steps"]["state"].items():
            assert torch.equal(found["steps"]["state"][name], value)


@given(batch=st.integers(1, 300), world=st.integers(1, 40))
def test_the_rows_of_all_processes_are_the_batch_and_differ_by_one(batch: int, world: int) -> None:
    parts = [Ranks(rank, world).rows(batch) for rank in range(world)]
    assert [row for part in parts for row in part] == list(range(batch))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@settings(max_examples=20)
@given(world=st.integers(1, 9), batch=st.integers(9, 16), first=st.integers(0, 20))
def test_the_clips_of_all_processes_make_up_the_batch(
    shard_set: ShardSet, world: int, batch: int, first: int
) -> None:
    def read(rows: range) -> list[list[int]]:
        with CropReader(shard_set, frames=32, batch=batch, rows=rows) as reader:
            return [found.clips.tolist() for found in reader.batches(first, 5)]

    parts = [read(Ranks(rank, world).rows(batch)) for rank in range(world)]
    together = [[clip for part in step for clip in part] for step in zip(*parts, strict=True)]
    assert together == read(range(batch))


def test_more_processes_than_clips_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "9")
    with (
        pytest.raises(UserError, match="9 processes share a batch of 8 clips"),
        joined_ranks("cpu", 8),
    ):
        pass


def test_what_the_first_process_refuses_is_refused_by_all() -> None:
    def refuse() -> None:
        raise UserError("no")

    with pytest.raises(AgreedError, match="no"):
        Ranks().from_first(refuse)

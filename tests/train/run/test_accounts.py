"""Where a step's time goes, what waits for the device, and what a run says of it."""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.read.reader import Batch, CropReader
from audio_barlow_twins.shards.read.tune import ReadSpeed
from audio_barlow_twins.shards.stored.shardset import ShardSet
from audio_barlow_twins.train.config import TrainConfig
from audio_barlow_twins.train.run.folder import read_metrics
from audio_barlow_twins.train.run.preflight import Preflight, measure
from audio_barlow_twins.train.run.session import train
from audio_barlow_twins.train.run.summary import name_bottleneck, summarise
from audio_barlow_twins.train.step.clock import PARTS, Clock
from audio_barlow_twins.train.step.trainer import Trainer


class HostReads(TorchDispatchMode):
    """Note every operation whose result the host has to wait for."""

    READS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name.startswith(self.READS):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def late_by(config: TrainConfig, shard_set: ShardSet) -> float:
    """Return seconds that are long beside a step, however busy the machine is."""
    trainer, seconds = Trainer(config, shard_set), [0.03]
    for _ in range(3):
        batch, begin = next(trainer.batches()), time.perf_counter()
        trainer.take_step(batch)
        seconds.append(time.perf_counter() - begin)
    return 10 * max(seconds[0], *seconds[2:])


def slow_down(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Make every batch of every reader late."""
    batches = CropReader.batches

    def late(self: CropReader, *args: int) -> Iterator[Batch]:
        for batch in batches(self, *args):
            time.sleep(seconds)
            yield batch

    monkeypatch.setattr(CropReader, "batches", late)


def test_the_parts_of_a_lap_are_all_of_its_time() -> None:
    clock, begin = Clock(), time.perf_counter()
    for _ in range(3):
        for part in PARTS:
            time.sleep(0.02 if part == "views" else 0.001)
            clock.mark(part)
    seconds, shares = clock.lap()
    assert seconds == pytest.approx(time.perf_counter() - begin, abs=2e-3)
    assert sum(shares.values()) == pytest.approx(1)
    assert tuple(shares) == PARTS
    assert shares["views"] == max(shares.values())


def test_a_new_lap_begins_where_the_last_one_ended() -> None:
    clock = Clock()
    clock.mark("copy")
    clock.lap()
    time.sleep(0.01)
    clock.mark("views")
    seconds, shares = clock.lap()
    assert seconds >= 0.01
    assert shares["views"] == pytest.approx(1)


def test_a_mode_sees_what_makes_the_host_wait() -> None:
    with HostReads() as reads:
        float(torch.ones(2).sum())
        bool(torch.ones(1) > 0)
        torch.ones(2).nonzero()
    assert len(reads.found) == 3


def test_no_step_reads_anything_back(config: TrainConfig, shard_set: ShardSet) -> None:
    trainer = Trainer(config, shard_set)
    for number, inputs in enumerate(trainer.batches()):
        with HostReads() as reads:
            trainer.take_step(inputs)
        assert reads.found == [], number


def test_a_slow_reader_is_what_the_time_goes_to(
    config: TrainConfig,
    shard_set: ShardSet,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    slow_down(monkeypatch, late := late_by(config, shard_set))
    train(replace(config, epochs=0.8, preflight=False))
    lines = read_metrics(config.run / "metrics.jsonl")
    assert all(line["seconds"] * line["share_waiting_for_data"] > 0.97 * late for line in lines)
    assert all(line["longest_wait"] == line["share_waiting_for_data"] for line in lines)
    assert "limit    the reader: the network waits for data" in capsys.readouterr().out


def test_a_run_that_waits_longer_than_allowed_fails_but_saves(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_down(monkeypatch, 0.05)
    wanted = r"of the last 20 steps went by waiting for data, --max-stall allows 1 %; saved at"
    config = replace(config, epochs=8, max_stall=0.01, checkpoint_every_s=3600, preflight=False)
    with pytest.raises(UserError, match=wanted) as caught:
        train(config)
    assert "\n" not in str(caught.value)
    assert (config.run / "checkpoint.pt").exists()
    assert read_metrics(config.run / "metrics.jsonl")[-1]["step"] == 21


def test_a_run_that_does_not_wait_may_be_strict(config: TrainConfig) -> None:
    train(replace(config, epochs=5, max_stall=0.9))
    assert read_metrics(config.run / "metrics.jsonl")[-1]["step"] == 25


def test_the_preflight_leaves_no_trace(config: TrainConfig, shard_set: ShardSet) -> None:
    measured, plain = Trainer(config, shard_set), Trainer(config, shard_set)
    measure(measured)
    assert measured.views.bank.filled == 0
    found, wanted = (
        torch.stack([trainer.take_step(inputs) for inputs in trainer.batches()])
        for trainer in (measured, plain)
    )
    assert torch.equal(found, wanted)
    for name, value in plain.network.state_dict().items():
        assert torch.equal(measured.network.state_dict()[name], value)


def test_the_preflight_finds_a_reader_that_is_slower_than_the_network(
    config: TrainConfig, shard_set: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_down(monkeypatch, late := late_by(config, shard_set))
    found = measure(Trainer(config, shard_set))
    assert found.reader < config.batch / late
    assert found.network > found.reader
    assert "the reader will limit" in str(found)


def said(network: float, **known: Any) -> str:
    """Return what is said of a batch of 100 clips, read in `seconds`."""
    read = ReadSpeed(**{"cached": False, "limit": False, "ahead": 8, "unit": "crops", **known})
    return str(Preflight(network, 100, read))


def test_the_preflight_says_who_limits_and_by_how_much() -> None:
    assert said(500, seconds=0.02, cached=True) == (
        "preflight: reader 5000 clips/s from memory, network 500 clips/s; the network will limit, "
        "the reader could feed it 10 times over"
    )
    slow = said(400, seconds=1, limit=True)
    assert "reader 100 clips/s from storage, 8 batches ahead, the most that this storage " in slow
    assert "the network will wait 75 % of the time; put the shards on a faster disk" in slow


def test_the_preflight_says_what_keeps_the_reader_from_reading_faster() -> None:
    ignored = said(400, seconds=1, advice="ignored", in_order=320.0)
    assert "this file system ignores what it is told to prefetch, so each crop waits;" in ignored
    assert "whole shards in order would give 320 clips/s: choose --reader-unit shards" in ignored
    missing = said(400, seconds=1, advice="missing", in_order=90.0)
    assert "this system cannot be told what to prefetch, so each crop waits; put the" in missing
    assert "by whole shards in order," in said(400, seconds=1, unit="shards", in_order=100.0)


@pytest.mark.parametrize(
    ("wait", "compute", "words"),
    [
        (0.001, 0.8, "forward and backward; the reader keeps up (80 % of"),
        (0.1, 0.6, "forward and backward, but the reader is next: waiting for data costs 10.0 %"),
        (0.7, 0.2, "the reader: the network waits for data"),
    ],
)
def test_the_bottleneck_is_named_in_words(wait: float, compute: float, words: str) -> None:
    shares = {"waiting for data": wait, "views": 0.05, "forward and backward": compute}
    assert words in name_bottleneck(shares)


def test_the_summary_tells_speed_memory_and_the_time_of_the_papers_run(config: TrainConfig) -> None:
    # The full encoder: of a small one's few days, the rounding to whole days is a good part.
    train(replace(config, preflight=False, encoder_options=()))
    lines = read_metrics(config.run / "metrics.jsonl")
    text = summarise(config.run)
    speed = float(re.findall(r"speed +([\d.]+) clips/s", text)[0])
    found = re.findall(r"100 epochs of 1,629,756 clips would take ([\d,.]+) (days|h)", text)
    length, unit = found[0]
    seconds = float(length.replace(",", "")) * {"days": 86400, "h": 3600}[unit]
    assert seconds == pytest.approx(162_975_600 / speed, rel=0.05)
    peak = max(line["peak_host_gb"] for line in lines)
    assert f"{peak:.2f} GB memory at most, in each of 1 process(es)" in text


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"workers": 9, "batch": 8}, "workers is 9; choose at most 8, the batch"),
        ({"restarts": -1}, "restarts is -1; choose 0 or more"),
        ({"max_stall": 0.0}, "max_stall is 0.0; choose a share"),
        ({"max_stall": 1.5}, "max_stall is 1.5"),
    ],
)
def test_numbers_of_workers_and_shares_that_cannot_work_are_refused(
    bad: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        TrainConfig(**bad)


def test_a_run_on_the_cpu_does_not_start_cuda(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start() -> None:
        raise AssertionError("CUDA was started")

    monkeypatch.setattr("torch.cuda._lazy_init", start)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    train(replace(config, epochs=0.8, device="cpu"))
    with pytest.raises(AssertionError, match="CUDA was started"):
        torch.zeros(1, device="cuda")

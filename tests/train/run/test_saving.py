"""Checkpoints written while training goes on: what is in them, and what becomes of failures."""

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from threading import Event

import pytest
import torch
from states import assert_same_state
from torch import Tensor

from audio_barlow_twins.model.checkpoint import Checkpoint, load_checkpoint
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.shardset import ShardSet
from audio_barlow_twins.train.config import TrainConfig
from audio_barlow_twins.train.run.folder import RunFolder, read_metrics
from audio_barlow_twins.train.run.saving import Saver, on_host
from audio_barlow_twins.train.run.session import train
from audio_barlow_twins.train.step.feed import Inputs
from audio_barlow_twins.train.step.trainer import Trainer

CPU = torch.device("cpu")


def checkpoint_of(step: int, **tensors: Tensor) -> Checkpoint:
    """Make a checkpoint of some tensors."""
    return Checkpoint(
        encoder="any", sizes={}, state=tensors, front_end={}, mean=0, std=1, fingerprint="f",
        step=step, training={"optimiser": {"state": [tensors]}},
    )  # fmt: skip


class Disk:
    """Write to a list, but not before it is allowed."""

    def __init__(self) -> None:
        self.allowed, self.written = Event(), list[Checkpoint]()

    def write(self, checkpoint: Checkpoint) -> None:
        assert self.allowed.wait(60)
        self.written.append(checkpoint)


def full(checkpoint: Checkpoint) -> None:
    """Stand for a full disk."""
    raise UserError(f"the disk is full at step {checkpoint.step}")


def test_steps_go_on_while_a_slow_disk_writes_and_what_is_written_does_not_change() -> None:
    disk, weights = Disk(), torch.zeros(3)
    with Saver(disk.write, CPU, 0) as saver:
        saver.save(checkpoint_of(7, weights=weights))
        weights += 1  # the step after it
        assert not disk.written
        disk.allowed.set()
    (found,) = disk.written
    assert found.step == 7
    assert found.training is not None
    for kept in (found.state, found.training["optimiser"]["state"][0]):
        assert torch.equal(kept["weights"], torch.zeros(3))


def test_checkpoints_are_written_one_after_another_and_all_of_them() -> None:
    disk = Disk()
    disk.allowed.set()
    with Saver(disk.write, CPU, 0) as saver:
        for step in range(5):
            saver.save(checkpoint_of(step))
            assert len(disk.written) >= step
        saver.wait()
        assert len(disk.written) == 5
    assert [each.step for each in disk.written] == list(range(5))


def save_then(write: Callable[[Checkpoint], None], act: Callable[[Saver], object]) -> None:
    """Save, do something else, and end."""
    with Saver(write, CPU, 0) as saver:
        saver.save(checkpoint_of(1))
        act(saver)


def save_again(saver: Saver) -> None:
    """Save a later step."""
    saver.save(checkpoint_of(2))


def fail(saver: Saver) -> None:
    """Stand for a training that fails."""
    raise ZeroDivisionError


@pytest.mark.parametrize("act", [save_again, Saver.wait, lambda saver: None])
def test_a_failure_is_raised_at_the_next_save_or_at_the_end(act: Callable[[Saver], object]) -> None:
    with pytest.raises(UserError, match=r"^the disk is full at step 1$"):
        save_then(full, act)


def test_what_ended_training_is_raised_and_a_failure_beside_it_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(ZeroDivisionError):
        save_then(full, fail)
    assert "not saved: the disk is full at step 1" in caplog.text


def test_an_error_waits_for_what_is_being_written() -> None:
    written: list[Checkpoint] = []

    def write(checkpoint: Checkpoint) -> None:
        time.sleep(0.05)
        written.append(checkpoint)

    with pytest.raises(ZeroDivisionError):
        save_then(write, fail)
    assert len(written) == 1


def test_it_is_late_only_where_something_is_to_be_written() -> None:
    disk = Disk()
    disk.allowed.set()
    with Saver(disk.write, CPU, 3600) as rare, Saver(disk.write, CPU, -1) as often:
        assert (rare.is_late, often.is_late) == (False, True)
    with Saver(None, CPU, -1) as saver:
        assert not saver.is_late
        saver.save(checkpoint_of(1))


def test_a_copy_shares_no_memory_and_keeps_numbers_and_their_order() -> None:
    value = {"b": [torch.ones(2, 3).T, 1, "x"], "a": (torch.zeros(()), None, 0.5)}
    found = on_host(value)
    assert list(found) == ["b", "a"]
    assert found["b"][1:] == [1, "x"]
    assert found["a"][1:] == (None, 0.5)
    for one, other in ((found["b"][0], value["b"][0]), (found["a"][0], value["a"][0])):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()
        assert one.data_ptr() != other.data_ptr()


def test_the_file_holds_the_step_at_which_it_was_saved(
    config: TrainConfig, shard_set: ShardSet
) -> None:
    trainer, folder, go = Trainer(config, shard_set), RunFolder(config), Event()

    def write(checkpoint: Checkpoint) -> None:
        assert go.wait(60)
        folder.save(checkpoint)

    batches = trainer.batches()
    with Saver(write, CPU, 0) as saver:
        trainer.take_step(next(batches))
        saver.save(trainer.checkpoint())
        trainer.take_step(next(batches))
        go.set()
    wanted = Trainer(config, shard_set)
    wanted.take_step(next(wanted.batches()))
    found = load_checkpoint(folder.checkpoint_path)
    assert found.step == 1
    assert_same_state(found, wanted.checkpoint())
    assert load_checkpoint(folder.encoder_path).training is None


def test_a_run_takes_its_steps_while_a_checkpoint_is_written(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, take, save = Event(), Trainer.take_step, RunFolder.save

    def taking(self: Trainer, inputs: Inputs) -> Tensor:
        if self.step == 3:
            go.set()
        return take(self, inputs)

    def saving(self: RunFolder, checkpoint: Checkpoint) -> None:
        assert go.wait(60)
        save(self, checkpoint)

    monkeypatch.setattr(Trainer, "take_step", taking)
    monkeypatch.setattr(RunFolder, "save", saving)
    monkeypatch.setattr(Saver, "is_late", property(lambda self: not self._writing))
    train(replace(config, epochs=1, preflight=False))
    assert load_checkpoint(config.run / "checkpoint.pt").step == 5


def slow(monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[float]:
    """Make every save slow; return the times at which they end."""
    save, ended = RunFolder.save, list[float]()

    def late(self: RunFolder, checkpoint: Checkpoint) -> None:
        time.sleep(seconds)
        save(self, checkpoint)
        ended.append(time.monotonic())

    monkeypatch.setattr(RunFolder, "save", late)
    return ended


def test_waiting_for_a_save_is_no_waiting_for_data(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 0.3)
    train(replace(config, epochs=1, preflight=False))  # each step waits for the save before it
    lines = read_metrics(config.run / "metrics.jsonl")
    saved, waited = (
        sum(line[f"share_{part}"] * line["seconds"] for line in lines[2:])
        for part in ("saving", "waiting_for_data")
    )
    assert saved > 2 * waited


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send this process a SIGTERM in a step."""
    take = Trainer.take_step

    def stopping(self: Trainer, inputs: Inputs) -> Tensor:
        if self.step == step - 1:
            signal.raise_signal(signal.SIGTERM)
        return take(self, inputs)

    monkeypatch.setattr(Trainer, "take_step", stopping)


@pytest.mark.parametrize("stopped", [False, True])
def test_the_last_save_is_complete_when_training_returns(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    config = replace(config, epochs=1, preflight=False, checkpoint_every_s=3600)
    ended = slow(monkeypatch, 0.3)
    if stopped:
        stop_at(3, monkeypatch)
        with pytest.raises(SystemExit):
            train(config)
    else:
        train(config)
    assert len(ended) == 1
    assert load_checkpoint(config.run / "checkpoint.pt").step == (3 if stopped else 5)


def test_a_full_disk_ends_the_run_with_its_error(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunFolder, "save", lambda self, checkpoint: full(checkpoint))
    with pytest.raises(UserError, match=r"^the disk is full at step 1$"):
        train(replace(config, preflight=False))
    assert len(read_metrics(config.run / "metrics.jsonl")) <= 2

"""The loop on one device: bit-identical after a resume, and what a step is made of."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from states import assert_same_state
from torch import Tensor

from audio_barlow_twins.model.checkpoint import (
    Checkpoint,
    load_checkpoint,
    restore_encoder,
    save_checkpoint,
)
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.form import logmel_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.shardset import ShardSet, open_shards
from audio_barlow_twins.train.config import OptimiserConfig, TrainConfig
from audio_barlow_twins.train.step.schedule import warmup_cosine
from audio_barlow_twins.train.step.trainer import Trainer


def run_steps(trainer: Trainer, n_steps: int) -> list[Tensor]:
    """Take steps; return loss and terms of each."""
    return [
        trainer.take_step(batch)
        for _, batch in zip(range(n_steps), trainer.batches(), strict=False)
    ]


@pytest.fixture
def straight(config: TrainConfig, shard_set: ShardSet) -> tuple[Checkpoint, list[Tensor]]:
    """Take ten steps without a break."""
    trainer = Trainer(config, shard_set)
    losses = run_steps(trainer, 10)
    return trainer.checkpoint(), losses


def test_five_steps_and_five_after_a_resume_equal_ten_bit_for_bit(
    config: TrainConfig,
    shard_set: ShardSet,
    straight: tuple[Checkpoint, list[Tensor]],
    tmp_path: Path,
) -> None:
    first = Trainer(config, shard_set)
    losses = run_steps(first, 5)
    save_checkpoint(tmp_path / "half.pt", first.checkpoint())
    torch.rand(7)  # whatever else draws random numbers in between must not matter
    second = Trainer(replace(config, reader_ahead=5), shard_set)
    second.restore(load_checkpoint(tmp_path / "half.pt"))
    losses += run_steps(second, 5)
    assert second.step == 10
    assert torch.equal(torch.stack(losses), torch.stack(straight[1]))
    assert_same_state(second.checkpoint(), straight[0])


def test_a_resume_fills_the_mixup_bank_with_the_same_clips(
    config: TrainConfig, shard_set: ShardSet
) -> None:
    first, second = Trainer(config, shard_set), Trainer(config, shard_set)
    run_steps(first, 4)
    second.restore(first.checkpoint())
    assert torch.equal(second.views.bank.clips(), first.views.bank.clips())


def test_another_seed_gives_other_weights_batches_and_losses(
    config: TrainConfig, shard_set: ShardSet
) -> None:
    one, other = (run_steps(Trainer(replace(config, seed=s), shard_set), 2) for s in (0, 1))
    assert not torch.equal(torch.stack(one), torch.stack(other))


def test_the_views_get_crops_normalised_with_the_statistics_of_the_set(
    config: TrainConfig, shard_set: ShardSet, arrays: dict[str, np.ndarray]
) -> None:
    values = np.concatenate([array.ravel() for array in arrays.values()]).astype(np.float64)
    trainer = Trainer(replace(config, views=()), shard_set)
    inputs = next(trainer.batches())
    views = trainer.views(*inputs)
    expected = (inputs.crops.double() - values.mean()) / values.std()
    for view in views:
        torch.testing.assert_close(view.double(), expected, atol=1e-5, rtol=1e-5)


def test_a_checkpoint_describes_the_encoder_and_its_data(
    config: TrainConfig, shard_set: ShardSet, arrays: dict[str, np.ndarray]
) -> None:
    values = np.concatenate([array.ravel() for array in arrays.values()]).astype(np.float64)
    trainer = Trainer(config, shard_set)
    run_steps(trainer, 1)
    made = trainer.checkpoint()
    assert made.mean == pytest.approx(values.mean(), rel=1e-9)
    assert made.std == pytest.approx(values.std(), rel=1e-9)
    assert (made.step, made.fingerprint) == (1, shard_set.fingerprint)
    assert FrontEnd.from_parameters(made.front_end) == FrontEnd()
    encoder, x = restore_encoder(made), torch.randn(2, 32, 64)
    trainer.network.eval()
    torch.testing.assert_close(encoder(x), trainer.network.encoder(x))


def test_the_loss_goes_down_on_a_small_set(config: TrainConfig, shard_set: ShardSet) -> None:
    fast = OptimiserConfig(lr_weights=6.0, lr_biases=0.07, warmup_epochs=0.2)
    whole = replace(config, epochs=6, optimiser=fast, encoder_options=())
    trainer = Trainer(whole, shard_set)
    losses = [float(terms[0]) for terms in run_steps(trainer, 30)]
    assert np.mean(losses[-8:]) < 0.85 * np.mean(losses[:5])


def test_every_parameter_takes_part(config: TrainConfig, shard_set: ShardSet) -> None:
    trainer = Trainer(config, shard_set)
    before = {name: p.detach().clone() for name, p in trainer.network.named_parameters()}
    run_steps(trainer, 2)
    still = {n for n, p in trainer.network.named_parameters() if torch.equal(p, before[n])}
    assert still == set()


@pytest.mark.parametrize("final", [0.0, 0.3])
def test_the_learning_rates_follow_the_schedule_scaled_by_the_batch(
    config: TrainConfig, shard_set: ShardSet, final: float
) -> None:
    optimiser = OptimiserConfig(final_rate=final)
    trainer = Trainer(replace(config, epochs=4, optimiser=optimiser), shard_set)
    assert (trainer.total_steps, trainer.warmup_steps) == (20, 5)
    for step in range(8):
        run_steps(trainer, 1)
        rates = sorted(group["lr"] for group in trainer.optimiser.param_groups)
        factor = warmup_cosine(step, 20, 5, final) * 8 / 128
        assert rates == pytest.approx([0.0048 * factor, 0.4 * factor])


def test_bf16_stays_finite_keeps_float32_weights_and_is_close_to_float32(
    config: TrainConfig, shard_set: ShardSet
) -> None:
    precise, coarse = (
        Trainer(replace(config, precision=precision), shard_set)
        for precision in ("float32", "bf16")
    )
    wanted, found = (torch.stack(run_steps(trainer, 3)) for trainer in (precise, coarse))
    assert bool(found.isfinite().all())
    assert {p.dtype for p in coarse.network.parameters()} == {torch.float32}
    torch.testing.assert_close(found[0], wanted[0], rtol=0.05, atol=0.05)


def test_another_shard_set_is_refused(
    config: TrainConfig,
    shard_set: ShardSet,
    arrays: dict[str, np.ndarray],
    write_set: Callable[..., Path],
    tmp_path: Path,
) -> None:
    fewer = dict(list(arrays.items())[:10])
    other = open_shards(write_set(tmp_path / "other", logmel_form(FrontEnd()), fewer))
    made = Trainer(config, shard_set).checkpoint()
    with pytest.raises(UserError, match=f"fingerprint {made.fingerprint}.*give the same --shards"):
        Trainer(config, other).restore(made)


def test_an_encoder_alone_cannot_be_resumed(config: TrainConfig, shard_set: ShardSet) -> None:
    trainer = Trainer(config, shard_set)
    alone = replace(trainer.checkpoint(), training=None)
    with pytest.raises(UserError, match="encoder alone"):
        trainer.restore(alone)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said_in_words(config: TrainConfig, shard_set: ShardSet) -> None:
    with pytest.raises(UserError, match="torch finds no GPU"):
        Trainer(replace(config, device="cuda"), shard_set)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"batch": 1}, "batch is 1; choose 2 or more"),
        ({"crop_frames": 0}, "crop_frames is 0; choose 1 or more"),
        ({"projector_out": 0}, "projector_out is 0"),
        ({"projector_hidden": -1}, "projector_hidden is -1"),
        ({"reader_ahead": 0}, "reader_ahead is 0"),
        ({"epochs": 0.0}, "epochs is .*; choose a number above 0"),
        ({"epochs": float("nan")}, "epochs is .*; choose a number above 0"),
        ({"log_every": 0}, "log_every is 0; choose 1 or more"),
        ({"projector_layers": -1}, "projector_layers is -1"),
        ({"encoder_options": ("depth=2",)}, "encoder option is .depth=2."),
        ({"views": ("rrc", "rrc")}, "each at most once"),
        ({"encoder": "resnet"}, "no encoder is called 'resnet'; choose from audiontt,"),
    ],
)
def test_values_that_cannot_work_are_refused_at_once(bad: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        TrainConfig(**bad)


@pytest.mark.parametrize("warmup", [-1.0, float("nan"), float("inf")])
def test_a_warm_up_that_cannot_work_is_refused(warmup: float) -> None:
    with pytest.raises(UserError, match="warmup_epochs is"):
        OptimiserConfig(warmup_epochs=warmup)


@pytest.mark.parametrize("final", [-0.1, 1.1, float("nan")])
def test_a_final_rate_that_cannot_work_is_refused(final: float) -> None:
    with pytest.raises(UserError, match=r"final_rate is .*; choose a share from \[0, 1\]"):
        OptimiserConfig(final_rate=final)


def test_what_changes_the_last_bits_is_said_when_a_run_goes_on(
    config: TrainConfig, shard_set: ShardSet, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Trainer(config, shard_set), Trainer(config, shard_set)
    run_steps(first, 2)
    kept = first.checkpoint()
    second.restore(kept)
    assert kept.training is not None
    assert caplog.text == ""
    kept.training["numerics"] = {"device": "cuda", "step": "graph", "precision": "bf16"}
    second.restore(kept)
    assert "with device cuda, step graph, precision bf16 until step 2" in caplog.text
    assert "are with device cpu, step plain, precision float32 from now on" in caplog.text
    del kept.training["numerics"]  # as an earlier version wrote it
    caplog.clear()
    second.restore(kept)
    assert "an earlier version took the steps until 2" in caplog.text


def test_a_checkpoint_says_what_computed_its_log_mel(
    config: TrainConfig, shard_set: ShardSet, waves: Path
) -> None:
    assert Trainer(config, shard_set).checkpoint().log_mel == "fft"
    for backend in ("fft", "nnaudio"):
        given = replace(config, shards=str(waves), log_mel=backend)
        assert Trainer(given, open_shards(waves)).checkpoint().log_mel == backend

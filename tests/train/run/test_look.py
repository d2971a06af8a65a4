"""Looks at a run: effective rank by hand, the steps they fall on, collapse by name, pictures."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from audio_barlow_twins.model.barlow_twins import cross_correlation
from audio_barlow_twins.shards.stored.shardset import ShardSet
from audio_barlow_twins.train.config import TrainConfig
from audio_barlow_twins.train.run.evaluation import (
    effective_rank,
    keep_correlation,
    look_steps,
    name_collapse,
)
from audio_barlow_twins.train.run.folder import read_metrics
from audio_barlow_twins.train.run.session import train
from audio_barlow_twins.train.run.summary import summarise
from audio_barlow_twins.train.step.trainer import Trainer


@given(singular=st.lists(st.floats(0.01, 100), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_effective_rank_is_the_exponential_of_the_entropy_of_the_singular_values(
    singular: list[float], seed: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    ones = torch.ones(16, 1, dtype=torch.float64)
    left = torch.randn(16, len(singular), generator=g, dtype=torch.float64)
    left = torch.linalg.qr(torch.cat([ones, left], 1))[0][:, 1:]  # centred columns
    right = torch.linalg.qr(torch.randn(9, 9, generator=g, dtype=torch.float64))[0]
    x = left @ torch.tensor(singular, dtype=torch.float64).diag() @ right[: len(singular)]
    share = np.array(singular) / sum(singular)
    expected = np.exp(-(share * np.log(share)).sum())
    assert effective_rank(x + max(singular)) == pytest.approx(expected, rel=1e-6)


def test_equal_embeddings_have_rank_0_and_collapse_is_named() -> None:
    assert effective_rank(torch.full((8, 4), 3.0)) == 0
    assert name_collapse(0).startswith("complete collapse")
    line = torch.linspace(0, 1, 8)[:, None] * torch.tensor([1.0, -2.0, 3.0])
    assert effective_rank(line) == pytest.approx(1)
    assert name_collapse(effective_rank(line)).startswith("dimensional collapse")
    assert name_collapse(effective_rank(torch.randn(64, 16))) == ""


@pytest.mark.parametrize(
    ("total", "per_epoch", "every", "expected"),
    [
        (24, 4, 0, set(range(2, 25, 2))),
        (5, 4, 0, {1, 2, 3, 4, 5}),
        (10, 4, 1, {4, 8, 10}),
        (10, 2.5, 2, {5, 10}),
        (3, 10, 5, {3}),
    ],
)
def test_looks_fall_on_whole_parts_of_a_run(
    total: int, per_epoch: float, every: float, expected: set[int]
) -> None:
    assert look_steps(total, per_epoch, every) == expected


def test_a_run_is_looked_at_and_pictured(config: TrainConfig) -> None:
    train(replace(config, look_epochs=0.4, log_every=7, preflight=False))
    lines = read_metrics(config.run / "metrics.jsonl")
    looked = {line["step"]: line["effective_rank"] for line in lines if "effective_rank" in line}
    assert sorted(looked) == [2, 4, 6, 8, 10]
    assert all(1 <= rank <= config.batch for rank in looked.values())
    assert "effective rank of a batch's embeddings " in summarise(config.run)
    kept = sorted((config.run / "correlations").iterdir())
    assert [int(path.stem) for path in kept] == sorted(looked)
    for name in ("loss.png", "correlation.png"):
        assert (config.run / name).read_bytes().startswith(b"\x89PNG")
    (config.run / "correlation.png").unlink()  # as without matplotlib
    assert ": metrics.jsonl, loss.png, checkpoint.pt, encoder.pt, config.json\n" in summarise(
        config.run
    )


def test_what_is_kept_is_the_correlation_of_the_last_step(
    config: TrainConfig,
    shard_set: ShardSet,
    take: Callable[[Trainer, int], list[Tensor]],
    tmp_path: Path,
) -> None:
    trainer = Trainer(config, shard_set)
    seen: list[Tensor] = []
    trainer.network.projector.register_forward_hook(lambda *args: seen.append(args[2].detach()))
    take(trainer, 1)
    assert trainer.latest is not None
    keep_correlation(tmp_path, 1, trainer.latest.correlation)
    kept = np.load(tmp_path / "correlations/000000001.npy")
    expected = np.corrcoef(seen[0].double().T, seen[1].double().T)[:16, 16:]
    np.testing.assert_allclose(kept, expected, atol=2e-3)
    torch.testing.assert_close(trainer.latest.correlation, cross_correlation(*seen))


def test_a_collapsed_run_says_so(
    config: TrainConfig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def constant(trainer: Trainer) -> object:
        with torch.no_grad():
            for p in trainer.network.encoder.parameters():
                p.zero_()
        return plain(trainer)

    plain = Trainer.batches
    monkeypatch.setattr(Trainer, "batches", constant)
    train(replace(config, epochs=0.2, preflight=False))
    assert "complete collapse: all clips get the same embedding" in caplog.text
    assert "complete collapse" in summarise(config.run)

"""PPN: running statistics and batch statistics against numpy over all values at once."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from audio_barlow_twins.shards.stored.shardset import ShardSet
from audio_barlow_twins.train.config import TrainConfig
from audio_barlow_twins.train.step.trainer import Trainer
from audio_barlow_twins.train.views.norm import RunningNorm, clip_moments

CPU = torch.device("cpu")
PER_VIEW = pytest.mark.parametrize("per_view", [False, True])


def clips(n: int, seed: int) -> Tensor:
    """Draw clips of different loudness."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 6, 4, generator=g) * 3 + 5 * torch.rand(n, 1, 1, generator=g) - 4


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6), limit=st.integers(1, 20))
def test_running_statistics_are_those_of_all_clips_until_the_limit(
    sizes: list[int], limit: int
) -> None:
    norm = RunningNorm(limit, CPU, lambda x: x)
    seen: list[np.ndarray] = []
    for seed, size in enumerate(sizes):
        batch = clips(size, seed)
        norm.learn(batch)
        if sum(map(len, seen)) < limit:
            seen.append(batch.double().numpy())
        values = np.concatenate(seen)
        assert norm.statistics() == pytest.approx((values.mean(), values.std()), rel=1e-9)
        expected = (batch.double().numpy() - values.mean()) / values.std()
        np.testing.assert_allclose(norm(batch).numpy(), expected, atol=1e-5)


def test_both_views_together_get_mean_0_and_variance_1() -> None:
    views = RunningNorm(9, CPU, lambda x: x).finish(clips(8, 0))
    assert float(views.mean()) == pytest.approx(0, abs=1e-6)
    assert float(views.var(correction=0)) == pytest.approx(1, abs=1e-6)


def test_each_view_by_itself_gets_mean_0_and_variance_1_if_told() -> None:
    views = clips(8, 0)
    finished = RunningNorm(9, CPU, lambda x: x, per_view=True).finish(views).numpy()
    values = views.double().numpy()
    for view in (slice(0, 4), slice(4, 8)):
        expected = (values[view] - values[view].mean()) / values[view].std()
        np.testing.assert_allclose(finished[view], expected, atol=1e-5)
    joint = RunningNorm(9, CPU, lambda x: x).finish(views)
    assert np.abs(joint.numpy() - finished).max() > 0.1


@PER_VIEW
def test_a_process_with_half_of_the_batch_normalises_by_all_of_it(per_view: bool) -> None:
    views = clips(8, 0)
    mine, other = views[[0, 1, 4, 5]], views[[2, 3, 6, 7]]
    halves = iter(clip_moments(other).chunk(2))
    shared = RunningNorm(9, CPU, lambda x: torch.cat([x, next(halves)]), per_view)
    alone = RunningNorm(9, CPU, lambda x: x, per_view)
    torch.testing.assert_close(shared.finish(mine), alone.finish(views)[[0, 1, 4, 5]])


@pytest.mark.parametrize(("normalise", "apart"), [("ppn", False), ("ppn-per-view", True)])
def test_views_of_a_run_are_normalised_together_or_each_by_itself(
    config: TrainConfig, shard_set: ShardSet, normalise: str, apart: bool
) -> None:
    trainer = Trainer(replace(config, normalise=normalise, views=("mixup", "rrc")), shard_set)
    view_a, view_b = trainer.views(*next(trainer.batches()))
    both = torch.cat([view_a, view_b])
    assert float(both.mean()) == pytest.approx(0, abs=1e-5)
    assert float(both.var(correction=0)) == pytest.approx(1, abs=1e-4)
    means = float(view_a.mean()), float(view_b.mean())
    assert (means == pytest.approx((0, 0), abs=1e-5)) == apart


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("normalise", ["ppn", "ppn-per-view"])
def test_a_resumed_run_with_running_statistics_repeats_the_straight_one(
    config: TrainConfig,
    shard_set: ShardSet,
    take: Callable[[Trainer, int], list[Tensor]],
    normalise: str,
) -> None:
    config = replace(config, normalise=normalise)
    straight = Trainer(config, shard_set)
    losses = take(straight, 2)
    resumed = Trainer(config, shard_set)
    resumed.restore(deepcopy(straight.checkpoint()))
    assert torch.equal(torch.stack(take(straight, 3)), torch.stack(take(resumed, 3)))
    assert losses[0].isfinite().all()


def test_a_checkpoint_carries_the_running_statistics(
    config: TrainConfig, shard_set: ShardSet, take: Callable[[Trainer, int], list[Tensor]]
) -> None:
    trainer = Trainer(replace(config, normalise="ppn"), shard_set)
    batches = [batch.crops.double().clone() for batch in trainer.reader.batches(0, 2)]
    take(trainer, 2)
    values = torch.cat(batches)
    made = trainer.checkpoint()
    assert (made.mean, made.std) == pytest.approx(
        (float(values.mean()), float(values.std(correction=0)))
    )

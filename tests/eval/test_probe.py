import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from eval.probe import (
    GRID,
    Labelled,
    Point,
    ProbeResult,
    Schedule,
    batches,
    build_probe,
    fit_probe,
    n_trainings,
    probe_task,
)
from eval.scores import mean_average_precision, top1_accuracy
from eval.task import Arrangement

SMALL = Schedule(hidden_dim=32)
FOLDS = [
    Arrangement(train=("c",), valid="b", test="a"),
    Arrangement(train=("a",), valid="c", test="b"),
    Arrangement(train=("b",), valid="a", test="c"),
]


def clusters(n: int, seed: int, n_classes: int = 4, shuffled: bool = False) -> Labelled:
    """Make well separated clouds, one for each class, in 16 dimensions."""
    g = torch.Generator().manual_seed(seed)
    classes = torch.arange(n) % n_classes
    centres = 20 * torch.eye(16)[:n_classes]
    embeddings = centres[classes] + torch.randn(n, 16, generator=g)
    if shuffled:
        classes = classes[torch.randperm(n, generator=g)]
    return Labelled(embeddings, torch.eye(n_classes)[classes])


def three_folds(n: int, shuffled: bool = False) -> dict[str, Labelled]:
    return {name: clusters(n, seed, shuffled=shuffled) for seed, name in enumerate("abc")}


def test_separable_classes_are_learned_completely() -> None:
    result = probe_task(three_folds(60), FOLDS, top1_accuracy, False, schedule=SMALL)
    assert result.folds == (1.0, 1.0, 1.0)
    assert (result.mean, result.std) == (1.0, 0.0)


def test_shuffled_labels_are_guessed_at_chance() -> None:
    result = probe_task(
        three_folds(400, shuffled=True), FOLDS, top1_accuracy, False, schedule=SMALL
    )
    # Three times 400 clips at 1/4: the standard error of the mean is 1.25 %.
    assert abs(result.mean - 0.25) < 0.06


def test_labels_that_occur_together_are_learned() -> None:
    g = torch.Generator().manual_seed(0)
    splits = {}
    for name in "abc":
        embeddings = torch.randn(200, 16, generator=g)
        splits[name] = Labelled(embeddings, (embeddings[:, :3] > 0).float())
    result = probe_task(splits, FOLDS, mean_average_precision, True, schedule=SMALL)
    assert result.mean > 0.95


def test_probing_twice_gives_the_same_scores_and_leaves_the_generator_alone() -> None:
    splits = three_folds(40, shuffled=True)
    before = torch.get_rng_state()
    once, again = (
        probe_task(splits, FOLDS, top1_accuracy, False, schedule=SMALL) for _ in range(2)
    )
    assert once == again
    assert torch.equal(torch.get_rng_state(), before)


def test_the_probe_of_the_best_validation_is_returned_and_patience_ends_training() -> None:
    seen: list[float] = []

    def score(*_: object) -> float:
        seen.append([0.2, 0.7, 0.5, 0.7, 0.6, 0.9][len(seen)])
        return seen[-1]

    schedule = Schedule(hidden_dim=8, patience=3, validate_every=2)
    data = clusters(20, 0)
    fitted = fit_probe(data, data, GRID[0], schedule, score, False)
    assert seen == [0.2, 0.7, 0.5, 0.7, 0.6]
    assert (fitted.valid_score, fitted.epoch) == (0.7, 4)


def test_the_earlier_grid_point_wins_a_tie() -> None:
    trained: list[None] = []
    result = probe_task(
        three_folds(12), FOLDS, lambda *_: 1.0, False, schedule=SMALL,
        progress=lambda: trained.append(None),
    )  # fmt: skip
    assert result.point == GRID[0]
    assert len(trained) == n_trainings(GRID, FOLDS) == 5


def test_dropout_stands_between_norm_and_relu() -> None:
    point = Point(hidden_layers=2, initialization="uniform", learning_rate=1e-3)
    layers = [type(layer) for layer in build_probe(16, 3, point, Schedule())]
    hidden = [nn.Linear, nn.BatchNorm1d, nn.Dropout, nn.ReLU]
    assert layers == [*hidden, *hidden, nn.Linear]


@pytest.mark.parametrize("initialization", ["uniform", "normal"])
def test_later_layers_are_initialised_with_the_gain_of_relu(initialization: str) -> None:
    point = Point(hidden_layers=2, initialization=initialization, learning_rate=1e-3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        linears = [m for m in build_probe(512, 256, point, Schedule()) if isinstance(m, nn.Linear)]
    for linear, gain in zip(linears, (1, 2**0.5, 2**0.5), strict=True):
        expected = gain * (2 / sum(linear.weight.shape)) ** 0.5
        assert linear.weight.std().item() == pytest.approx(expected, rel=0.02)


@given(n=st.integers(1, 300), size=st.integers(2, 64))
def test_batches_cover_all_clips_in_order_and_none_is_alone(n: int, size: int) -> None:
    parts = [list(range(n))[part] for part in batches(n, size)]
    assert [i for part in parts for i in part] == list(range(n))
    assert all(len(part) > 1 for part in parts) or n == 1
    assert all(len(part) <= size + 1 for part in parts)


def test_deviation_over_folds_is_that_of_a_sample() -> None:
    result = ProbeResult(point=GRID[0], valid_score=1, folds=(0.2, 0.4, 0.9))
    assert result.mean == pytest.approx(0.5)
    assert result.std == pytest.approx((0.26 / 2) ** 0.5)
    assert ProbeResult(point=GRID[0], valid_score=1, folds=(0.2,)).std is None

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from audio_barlow_twins.eval.embed.embedded import Embedded, join
from audio_barlow_twins.eval.probe.recipe import HEAREVAL, ROBUST, Point, ProbeRecipe
from audio_barlow_twins.eval.probe.trainer import (
    Fitted,
    Trainer,
    Validation,
    batches,
    build_probe,
    fit_probe,
    predict,
    probabilities_of,
)

SMALL = Point(hidden_dim=8, check_val_every_n_epoch=2, patience=3)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def clusters(n: int, n_classes: int = 4) -> Embedded:
    """Make well separated clouds, one for each class, in 16 dimensions."""
    classes = torch.arange(n) % n_classes
    return Embedded(20 * torch.eye(16)[classes] + torch.randn(n, 16), torch.eye(n_classes)[classes])


def fitted_to(
    values: list[float], maximize: bool = True, protocol: ProbeRecipe = HEAREVAL
) -> tuple[Fitted, int]:
    """Train with validations that are made up; also return how many were asked for."""
    data, asked = clusters(20), []

    def validate(network: nn.Module) -> Validation:
        assert not network.training
        asked.append(values[len(asked)])
        return Validation(asked[-1])

    network = build_probe(16, 4, SMALL)
    trainer = Trainer(network, data, SMALL, protocol, multilabel=False)
    return fit_probe(trainer, validate, maximize), len(asked)


def test_the_best_validation_is_kept_and_patience_ends_training() -> None:
    fitted, asked = fitted_to([0.2, 0.7, 0.5, 0.7, 0.6, 0.9])
    assert (fitted.validation.value, fitted.epoch, asked) == (0.7, 3, 5)


def test_a_loss_is_best_at_its_minimum() -> None:
    fitted, asked = fitted_to([0.9, 0.3, 0.4, 0.3, 0.5, 0.1], maximize=False)
    assert (fitted.validation.value, fitted.epoch, asked) == (0.3, 3, 5)


@pytest.mark.parametrize("maximize", [True, False])
def test_a_nan_ends_training_and_is_kept_if_there_is_nothing_else(maximize: bool) -> None:
    fitted, asked = fitted_to([math.nan, 0.5], maximize)
    assert (fitted.validation.value, fitted.epoch) == (-math.inf if maximize else math.inf, 1)
    assert asked == 1
    assert fitted_to([0.4, math.nan, 0.5], maximize)[0].validation.value == 0.4


def test_a_steadier_protocol_trains_on_after_a_nan() -> None:
    fitted, asked = fitted_to([math.nan, 0.2, math.nan, 0.5, 0.1, 0.1, 0.1], protocol=ROBUST)
    assert (fitted.validation.value, fitted.epoch, asked) == (0.5, 7, 7)


@pytest.mark.parametrize("protocol", [HEAREVAL, ROBUST], ids=lambda p: p.name)
@pytest.mark.parametrize("max_epochs", [500, 9])
def test_nothing_but_time_is_saved_after_a_perfect_validation(protocol, max_epochs) -> None:
    point, data = replace(SMALL, max_epochs=max_epochs), clusters(20)
    found, states = [], []
    for perfect in (False, True):
        torch.manual_seed(1)
        network = build_probe(16, 4, point)
        trainer = Trainer(network, data, point, protocol, multilabel=False)
        said = [Validation(v, perfect=perfect and v == 1) for v in (0.7, 0.8, 0.9, 1.0, 0.5)]
        fitted = fit_probe(trainer, lambda _, said=said: said.pop(), True)
        found.append((fitted.validation.value, fitted.epoch, fitted.state["0.weight"].tolist()))
        states.append(torch.get_rng_state())
    assert found[0] == found[1]
    # Without a chain nobody uses the generator again.
    assert torch.equal(*states) or not protocol.chained


def test_epochs_after_a_perfect_validation_are_not_validated() -> None:
    data, asked = clusters(20), []
    trainer = Trainer(build_probe(16, 4, SMALL), data, SMALL, HEAREVAL, multilabel=False)

    def validate(network: nn.Module) -> Validation:
        asked.append(network)
        return Validation(1.0, perfect=True)

    fit_probe(trainer, validate, True)
    assert len(asked) == 1


def test_a_single_training_clip_is_refused() -> None:
    network = build_probe(16, 4, SMALL)
    with pytest.raises(ValueError, match="one training clip"):
        Trainer(network, clusters(1), SMALL, HEAREVAL, multilabel=False)


def test_the_network_of_the_best_validation_is_kept() -> None:
    data, losses = clusters(20), []

    def validate(network: nn.Module) -> Validation:
        logits = predict(network, data.embeddings, 1024)
        losses.append(nn.functional.cross_entropy(logits, data.targets).item())
        return Validation(-losses[-1] if len(losses) < 4 else -math.inf)

    network = build_probe(16, 4, SMALL)
    trainer = Trainer(network, data, SMALL, ROBUST, multilabel=False)
    fitted = fit_probe(trainer, validate, True)
    network.load_state_dict(fitted.state)
    logits = predict(network, data.embeddings, 1024)
    assert nn.functional.cross_entropy(logits, data.targets).item() == losses[2]


def test_a_training_that_ends_before_it_is_validated_is_refused() -> None:
    with pytest.raises(ValueError, match="no epoch is validated; wanted at least 2"):
        replace(SMALL, max_epochs=1)


@pytest.mark.parametrize("protocol", [HEAREVAL, ROBUST], ids=lambda p: p.name)
def test_separable_classes_are_learned_completely(protocol: ProbeRecipe) -> None:
    data, point = clusters(200), replace(SMALL, hidden_dim=32, lr=3.2e-3)
    network = build_probe(16, 4, point)
    trainer = Trainer(network, data, point, protocol, multilabel=False)
    for _ in range(60):
        trainer.epoch()
    found = probabilities_of(predict(network, data.embeddings, 64), multilabel=False)
    assert torch.equal(found.argmax(dim=1), data.targets.argmax(dim=1))


def trained(point: Point, protocol: ProbeRecipe, data: Embedded, n_epochs: int) -> nn.Sequential:
    network = build_probe(16, 4, point)
    trainer = Trainer(network, data, point, protocol, multilabel=True)
    for _ in range(n_epochs):
        trainer.epoch()
    return network


def test_training_is_adam_on_mean_binary_cross_entropy_batch_by_batch() -> None:
    """Without hidden layers: against float64, gradients by hand, Adam by its paper."""
    data, point = clusters(10), Point(hidden_layers=0, lr=1e-2, batch_size=4)
    torch.manual_seed(5)
    (start,) = build_probe(16, 4, point)
    torch.manual_seed(5)
    (reached,) = trained(point, HEAREVAL, data, 3)
    w = torch.cat([start.weight.detach().double(), start.bias.detach().double()[:, None]], dim=1)
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    ones = torch.ones(10, 1)
    x, y = torch.cat([data.embeddings, ones], dim=1).double(), data.targets.double()
    for step in range(1, 10):
        rows = [slice(0, 4), slice(4, 8), slice(8, 10)][(step - 1) % 3]
        error = torch.sigmoid(x[rows] @ w.T) - y[rows]
        gradient = error.T @ x[rows] / error.numel()
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        w -= 1e-2 * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
    torch.testing.assert_close(reached.weight.double(), w[:, :-1], rtol=1e-4, atol=1e-6)


def test_only_a_shuffling_protocol_depends_on_more_than_the_rows_order() -> None:
    point = Point(hidden_layers=0, batch_size=4)
    data = clusters(12)
    # Whole batches in another order inside: their gradients are sums, so nothing changes.
    turned = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8]
    other = Embedded(data.embeddings[turned], data.targets[turned])

    def weights(protocol: ProbeRecipe, of: Embedded) -> torch.Tensor:
        torch.manual_seed(1)
        return trained(point, protocol, of, 2)[0].weight

    torch.testing.assert_close(weights(HEAREVAL, data), weights(HEAREVAL, other))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(weights(ROBUST, data), weights(ROBUST, other))


def test_dropout_stands_between_norm_and_relu() -> None:
    layers = [type(layer) for layer in build_probe(16, 3, Point(hidden_layers=2))]
    hidden = [nn.Linear, nn.BatchNorm1d, nn.Dropout, nn.ReLU]
    assert layers == [*hidden, *hidden, nn.Linear]


@pytest.mark.parametrize("initialization", ["xavier_uniform_", "xavier_normal_"])
def test_later_layers_are_initialised_with_the_gain_of_relu(initialization: str) -> None:
    point = Point(hidden_layers=2, initialization=initialization)
    network = build_probe(512, 256, point)
    linears = [layer for layer in network if isinstance(layer, nn.Linear)]
    for linear, gain in zip(linears, (1, 2**0.5, 2**0.5), strict=True):
        expected = gain * (2 / sum(linear.weight.shape)) ** 0.5
        assert linear.weight.std().item() == pytest.approx(expected, rel=0.02)


@given(n=st.integers(2, 300), size=st.integers(2, 64))
def test_batches_cover_all_rows_in_order_and_none_is_alone(n: int, size: int) -> None:
    parts = [list(range(n))[part] for part in batches(n, size)]
    assert [i for part in parts for i in part] == list(range(n))
    assert all(len(part) > 1 for part in parts)
    assert all(len(part) <= size + 1 for part in parts)


@pytest.mark.parametrize("make", [
    lambda: Embedded(torch.zeros(3, 2), torch.zeros(4, 2)),
    lambda: join([clusters(4), Embedded(torch.zeros(3, 16), torch.zeros(2, 4))]),
])  # fmt: skip
def test_rows_without_targets_are_refused(make: Callable[[], Embedded]) -> None:
    with pytest.raises(ValueError, match="embeddings have"):
        make()

"""The step that is written out against torch.nn, autograd and torch.optim, on one thread."""

from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audio_barlow_twins.eval.probe.backprop import BackpropStep, FlatAdam, HiddenStep
from audio_barlow_twins.eval.probe.lowprecision import FastAdam, FastHiddenStep, FastStep
from audio_barlow_twins.eval.probe.recipe import FAST, HEAREVAL, Point
from audio_barlow_twins.eval.probe.trainer import AutogradStep, build_probe

LR = 3e-3
LAYERS = pytest.mark.parametrize("hidden_layers", [0, 1, 2])
ADAMS = pytest.mark.parametrize("kind", [FlatAdam, FastAdam])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made_batches(d: int, n_labels: int, multilabel: bool) -> list[tuple[Tensor, Tensor]]:
    """Make an epoch of two batches, the second one short."""
    sizes = (70, 33)
    if multilabel:
        return [(torch.randn(n, d), torch.rand(n, n_labels).round()) for n in sizes]
    return [(torch.randn(n, d), torch.randint(n_labels, (n,))) for n in sizes]


@pytest.mark.parametrize("multilabel", [False, True])
@LAYERS
def test_training_is_that_of_autograd_and_torchs_adam_bit_for_bit(hidden_layers, multilabel):
    # Sizes that fill no vector register, and more weights than Adam takes at a time.
    point = Point(hidden_layers=hidden_layers, hidden_dim=301)
    network = build_probe(257, 19, point, HEAREVAL)
    reference = deepcopy(network).train()
    loss = F.binary_cross_entropy_with_logits if multilabel else F.cross_entropy
    epoch = made_batches(257, 19, multilabel)
    left = []
    steps = BackpropStep(network, LR, loss, 70), AutogradStep(reference, LR, loss)
    for step in steps:
        torch.manual_seed(3)
        for _ in range(4):
            for batch in epoch:
                step(*batch)
        left.append(torch.get_rng_state())
    assert torch.equal(*left)
    expected = {k: v for k, v in reference.state_dict().items() if "num_batches" not in k}
    assert all(torch.equal(network.state_dict()[name], value) for name, value in expected.items())


@LAYERS
def test_a_draw_leaves_the_generator_where_a_step_does(hidden_layers):
    network = build_probe(5, 3, Point(hidden_layers=hidden_layers, hidden_dim=17), HEAREVAL)
    step = BackpropStep(network, LR, F.cross_entropy, 9)
    batch, states = (torch.randn(9, 5), torch.zeros(9).long()), []
    for act in (lambda: step(*batch), lambda: step.draw(9)):
        torch.manual_seed(4)
        act()
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def loss_in_float64(network: nn.Sequential, step: FastStep, x: Tensor, y: Tensor) -> Tensor:
    """State the loss of the step just done, with the dropout that it drew."""
    x = x.double()
    hidden = [layer for layer in step.layers if isinstance(layer, FastHiddenStep)]
    for i, layer in enumerate(hidden):
        linear, norm = network[4 * i], network[4 * i + 1]
        x = x @ linear.weight.T
        deviation = (x.var(dim=0, correction=0) + norm.eps).sqrt()
        x = (x - x.mean(dim=0)) / deviation * norm.weight + norm.bias
        kept = layer.words.view(torch.int16)[: x.numel()].view_as(x) != 0
        x = torch.where(kept, x.clamp_min(0), 0) / (1 - layer.p)
    return F.cross_entropy(x @ network[-1].weight.T + network[-1].bias, y)


@LAYERS
def test_bfloat16_gradients_are_those_of_float64_but_for_rounding(hidden_layers):
    # Hidden layers are wide enough to be turned before they are multiplied.
    point = Point(hidden_layers=hidden_layers, hidden_dim=600, dropout=0.4)
    network = build_probe(64, 5, point, FAST)
    for norm in (layer for layer in network if isinstance(layer, nn.BatchNorm1d)):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    x, y = torch.randn(50, 64).bfloat16(), torch.randint(5, (50,))
    reference = deepcopy(network).double()
    step = FastStep(network, LR, F.cross_entropy, 50)
    step(x, y)
    loss_in_float64(reference, step, x, y).backward()
    for ours, wanted in zip(network.parameters(), reference.parameters(), strict=True):
        found = step.adam.part(step.adam.slopes, ours).double()
        slope = torch.zeros_like(found) if wanted.grad is None else wanted.grad
        # Rounding turns some ReLUs on and off; every wrong factor would be a greater error.
        assert (found - slope).norm() <= 0.1 * slope.norm()


@ADAMS
def test_flat_adam_moves_weights_as_float64_does(kind):
    network = nn.Sequential(nn.Linear(300, 301), nn.Linear(301, 7)).requires_grad_(False)
    reference = deepcopy(network).double()
    adam, optimizer = kind(network, LR), torch.optim.Adam(reference.parameters(), lr=LR)
    for _ in range(5):
        for ours, theirs in zip(network.parameters(), reference.parameters(), strict=True):
            slope = torch.randn_like(ours).bfloat16()
            adam.part(adam.slopes, ours).copy_(slope)
            theirs.grad = slope.double()
        adam.update()
        optimizer.step()
    for ours, theirs in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-6)
        assert torch.equal(adam.part(adam.used, ours), ours.to(kind.dtype))


@pytest.mark.parametrize("kind", [HiddenStep, FastHiddenStep])
def test_dropout_zeroes_a_tenth_and_scales_up_the_rest(kind):
    norm = nn.BatchNorm1d(1000).requires_grad_(False)
    nn.init.constant_(norm.bias, 10)
    nn.init.zeros_(norm.weight)
    adam = (FastAdam if kind is FastHiddenStep else FlatAdam)(norm, LR)
    out = kind(norm, 0.1, adam, 1100).forward(torch.randn(1001, 1000).to(adam.dtype))
    # A million draws: the standard error is 3e-4.
    assert (out == 0).float().mean().item() == pytest.approx(0.1, abs=2e-3)
    assert out[out != 0].float().unique().tolist() == [pytest.approx(10 / 0.9, rel=4e-3)]


def test_draws_of_fast_dropout_differ_from_batch_to_batch():
    norm = nn.BatchNorm1d(64)
    layer = FastHiddenStep(norm, 0.5, FastAdam(norm, LR), 64)
    first, second = layer.draw(64).clone(), layer.draw(64)
    assert 0.45 < (first != second).float().mean() < 0.55


def test_the_bias_before_a_batchnorm_is_left_out_in_bfloat16():
    network = build_probe(5, 3, Point(hidden_dim=17), FAST)
    FastStep(network, LR, F.cross_entropy, 9)(torch.randn(9, 5).bfloat16(), torch.zeros(9).long())
    assert not network[0].bias.any()
    assert network[-1].bias.any()

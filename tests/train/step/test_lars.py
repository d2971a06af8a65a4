"""LARS: against the update written out in numpy, its groups, and continuation from a state."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from audio_barlow_twins.train.step.lars import LARS, lars_groups


def make_net() -> nn.Sequential:
    """Build a small network with weights, biases and a norm."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3, bias=False))


def backward(net: nn.Module, step: int) -> None:
    """Put the gradients of a batch that depends on the step in place."""
    g = torch.Generator().manual_seed(step)
    x = torch.randn(8, 4, generator=g, dtype=next(net.parameters()).dtype)
    net.zero_grad()
    net(x).square().sum().backward()


def test_steps_equal_the_update_written_out() -> None:
    net = make_net().double()
    optimizer = LARS(lars_groups([net], lr_weights=0.4, lr_biases=0.0048))
    values = [p.detach().numpy().copy() for p in net.parameters()]
    momenta = [np.zeros_like(v) for v in values]
    for step in range(6):
        backward(net, step)
        for i, p in enumerate(net.parameters()):
            assert p.grad is not None
            g = p.grad.numpy().copy()
            if g.ndim >= 2:
                g += 1e-5 * values[i]
                g *= 0.001 * np.sqrt((values[i] ** 2).sum()) / np.sqrt((g**2).sum())
            momenta[i] = 0.9 * momenta[i] + g
            values[i] = values[i] - (0.4 if g.ndim >= 2 else 0.0048) * momenta[i]
        optimizer.step()
        for p, value in zip(net.parameters(), values, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), value, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("weight", "gradient", "decay", "expected"),
    [
        ([[3.0, 4.0]], [[0.0, 2.0]], 0.0, [[3.0, 4.0 - 0.5 * 0.001 * 5]]),
        ([[0.0, 0.0]], [[0.0, 2.0]], 0.0, [[0.0, -1.0]]),
        ([[3.0, 4.0]], [[0.0, 0.0]], 0.0, [[3.0, 4.0]]),
        ([[0.0, 0.0]], [[0.0, 0.0]], 0.1, [[0.0, 0.0]]),
        ([[3.0, 4.0]], [[-1.5, -2.0]], 0.5, [[3.0, 4.0]]),
    ],
)
def test_a_zero_norm_leaves_the_gradient_unscaled(
    weight: list, gradient: list, decay: float, expected: list
) -> None:
    p = nn.Parameter(torch.tensor(weight))
    p.grad = torch.tensor(gradient)
    LARS([p], lr=0.5, weight_decay=decay).step()
    torch.testing.assert_close(p.detach(), torch.tensor(expected), atol=1e-6, rtol=1e-6)


def test_groups_split_weights_from_biases_and_norms() -> None:
    net = make_net()
    net[0].bias.requires_grad_(False)
    weights, rest = lars_groups([net, net[3]], 0.4, 0.0048)
    assert [id(p) for p in weights["params"]] == [id(net[0].weight), id(net[3].weight)]
    assert [id(p) for p in rest["params"]] == [id(net[1].weight), id(net[1].bias)]
    assert (weights["lr"], rest["lr"]) == (0.4, 0.0048)
    assert (rest["weight_decay"], rest["adapt"]) == (0.0, False)


def test_a_parameter_without_a_gradient_stays() -> None:
    used, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    used.grad = torch.ones(2, 2)
    LARS([unused, used]).step()
    assert torch.equal(unused, torch.ones(2, 2))
    assert not torch.equal(used, torch.ones(2, 2))


def test_a_restored_state_continues_bit_for_bit() -> None:
    straight = make_net()
    optimizer = LARS(lars_groups([straight], 0.4, 0.0048))
    for step in range(3):
        backward(straight, step)
        optimizer.step()
    resumed = make_net()
    resumed.load_state_dict(straight.state_dict())
    second = LARS(lars_groups([resumed], 1.0, 1.0))
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(3, 6):
        for net, stepper in ((straight, optimizer), (resumed, second)):
            backward(net, step)
            stepper.step()
    assert all(map(torch.equal, straight.parameters(), resumed.parameters()))


def test_a_closure_is_evaluated_with_gradients() -> None:
    p = nn.Parameter(torch.ones(2, 2))

    def closure() -> Tensor:
        loss = p.square().sum()
        loss.backward()
        return loss

    assert LARS([p]).step(closure).item() == 4


def test_a_step_never_waits_for_the_device() -> None:
    p = nn.Parameter(torch.ones(2, 2, device="meta"))  # has no values: reading one fails
    p.grad = torch.ones(2, 2, device="meta")
    LARS([p]).step()

"""AdamW as the paper uses it for transformers, and the rates of every kind of optimiser."""

import numpy as np
import pytest
import torch
from torch import nn

from audio_barlow_twins.train.config import OptimiserConfig
from audio_barlow_twins.train.step.optimiser import make_optimiser, set_rate

ADAMW = OptimiserConfig(kind="adamw", lr_weights=1e-3, lr_biases=1e-3, weight_decay=0.24)


def test_adamw_decays_weights_alone_and_equals_the_update_written_out() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)).double()
    values = {name: p.detach().numpy().copy() for name, p in net.named_parameters()}
    first = {name: np.zeros_like(v) for name, v in values.items()}
    second = {name: np.zeros_like(v) for name, v in values.items()}
    optimiser = make_optimiser(net, ADAMW, 128)
    for step in range(1, 5):
        x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        net(x).square().mul(torch.arange(4)).sum().backward()
        for name, p in net.named_parameters():
            assert p.grad is not None
            g = p.grad.numpy()
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g**2
            if name == "0.weight":
                values[name] = values[name] * (1 - 1e-3 * 0.24)
            mean, square = first[name] / (1 - 0.9**step), second[name] / (1 - 0.999**step)
            values[name] = values[name] - 1e-3 * mean / (np.sqrt(square) + 1e-8)
        optimiser.step()
        for name, p in net.named_parameters():
            np.testing.assert_allclose(p.detach().numpy(), values[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("given", [OptimiserConfig(), ADAMW])
def test_rates_scale_with_the_batch_and_with_the_schedule(given: OptimiserConfig) -> None:
    optimiser = make_optimiser(nn.Linear(3, 4), given, 64)
    set_rate(optimiser, 0.25)
    rates = [group["lr"] for group in optimiser.param_groups]
    assert rates == pytest.approx([given.lr_weights / 8, given.lr_biases / 8])

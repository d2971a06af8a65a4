"""The projector: layers and sizes."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from audio_barlow_twins.model.barlow_twins import Projector


def test_projector_has_two_bias_free_layers_around_a_norm() -> None:
    projector = Projector(in_features=6, hidden=16, out_features=3)
    assert [type(layer) for layer in projector] == [
        nn.Linear,
        nn.BatchNorm1d,
        nn.ReLU,
        nn.Linear,
    ]
    assert sum(p.numel() for p in projector.parameters()) == 6 * 16 + 2 * 16 + 16 * 3


def test_projector_maps_representations_to_embeddings() -> None:
    assert Projector(6, 16, 3)(torch.randn(5, 6)).shape == (5, 3)


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_hidden_layers_are_linear_norm_relu(layers: int) -> None:
    net = Projector(5, 7, 3, layers)
    kinds = [type(module).__name__ for module in net]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU"] * layers + ["Linear"]
    widths = [(m.in_features, m.out_features) for m in net if isinstance(m, nn.Linear)]
    ends = [5, *[7] * layers, 3]
    assert widths == list(pairwise(ends))
    assert all(m.bias is None for m in net if isinstance(m, nn.Linear))

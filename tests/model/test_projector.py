"""The projector: layers and sizes."""

import torch
from torch import nn

from model.projector import Projector


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

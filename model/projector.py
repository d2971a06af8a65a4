"""The projector: maps representations to the embeddings that the loss compares."""

from torch import nn


class Projector(nn.Sequential):
    """Hidden layers of Linear, BatchNorm, ReLU, then Linear; no linear layer has a bias.

    Args:
        in_features: size of the representation.
        hidden: units of each hidden layer, 8192 in the paper.
        out_features: size of the embedding, 1024 for AudioSet in the paper.
        layers: number of hidden layers, 1 in the paper.
    """

    def __init__(self, in_features: int, hidden: int, out_features: int, layers: int = 1) -> None:
        stack: list[nn.Module] = []
        for width in [in_features, *[hidden] * (layers - 1)][:layers]:
            stack += [nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()]
        last = hidden if layers else in_features
        super().__init__(*stack, nn.Linear(last, out_features, bias=False))

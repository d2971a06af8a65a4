"""The projector: maps representations to the embeddings that the loss compares."""

from torch import nn


class Projector(nn.Sequential):
    """Linear, BatchNorm, ReLU, Linear; both linear layers without bias.

    Args:
        in_features: size of the representation.
        hidden: units of the hidden layer, 8192 in the paper.
        out_features: size of the embedding, 1024 for AudioSet in the paper.
    """

    def __init__(self, in_features: int, hidden: int, out_features: int) -> None:
        super().__init__(
            nn.Linear(in_features, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, out_features, bias=False),
        )

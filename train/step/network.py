"""The whole method in one module: two views in, the loss out."""

from typing import NamedTuple

from torch import Tensor, nn

from audio_barlow_twins.model.loss import BarlowTerms, cross_correlation, loss_of
from audio_barlow_twins.model.projector import Projector


class Outcome(NamedTuple):
    """What comes of a batch."""

    terms: BarlowTerms
    """Loss and its terms."""
    correlation: Tensor
    """Cross-correlation of the projections, float32 [D, D], detached."""
    embeddings: Tensor
    """The encoder's embeddings of view A, float [N, out_features], detached."""


class BarlowTwins(nn.Module):
    """Encoder, projector and loss (Anton et al. 2023, after Zbontar et al. 2021).

    Args:
        encoder: [N, T, F] to [N, encoder.out_features].
        hidden: width of the projector's hidden layers.
        layers: number of them.
        out_features: size of the projector's output.
        lambda_: weight of the off-diagonal term.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        hidden: int,
        out_features: int,
        lambda_: float,
        layers: int = 1,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        width = int(encoder.out_features)  # type: ignore[arg-type]
        self.projector = Projector(width, hidden, out_features, layers)
        self.lambda_ = lambda_

    def forward(self, view_a: Tensor, view_b: Tensor) -> Outcome:
        """Embed both views, each with batch statistics of its own, and compare them.

        Args:
            view_a, view_b: normalised log-mel, float [N, T, F].
        """
        y_a, y_b = self.encoder(view_a), self.encoder(view_b)
        correlation = cross_correlation(self.projector(y_a), self.projector(y_b))
        terms = loss_of(correlation, self.lambda_)
        return Outcome(terms, correlation.detach(), y_a.detach())

"""The whole method in one module: two views in, the loss out."""

from torch import Tensor, nn

from model.loss import BarlowTerms, barlow_loss
from model.projector import Projector


class BarlowTwins(nn.Module):
    """Encoder, projector and loss (Anton et al. 2023, after Zbontar et al. 2021).

    Args:
        encoder: [N, T, F] to [N, encoder.out_features].
        hidden: width of the projector's hidden layer.
        out_features: size of the projector's output.
        lambda_: weight of the off-diagonal term.
    """

    def __init__(
        self, encoder: nn.Module, *, hidden: int, out_features: int, lambda_: float
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = Projector(int(encoder.out_features), hidden, out_features)  # type: ignore[arg-type]
        self.lambda_ = lambda_

    def forward(self, view_a: Tensor, view_b: Tensor) -> BarlowTerms:
        """Embed both views, each with batch statistics of its own, and compare them.

        Args:
            view_a, view_b: normalised log-mel, float [N, T, F].
        """
        z_a, z_b = (self.projector(self.encoder(view)) for view in (view_a, view_b))
        return barlow_loss(z_a, z_b, lambda_=self.lambda_)

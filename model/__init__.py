"""Log-mel batches and projections come in; networks, the loss and checkpoints go out."""

"""One process's part of the order of the clips."""

import numpy as np

from audio_barlow_twins.shards.read.order import Order


class PartOrder(Order):
    """The positions that fall to one process when every global batch is cut into rows.

    Args:
        order: the sequence of all processes.
        rows: this process's rows of a global batch.
        batch: clips of a global batch.
    """

    def __init__(self, order: Order, rows: range, batch: int) -> None:
        super().__init__(
            order.shard_set, frames=order.frames, seed=order.seed, block_shards=order.block_shards
        )
        self.rows, self.batch = rows, batch

    def clips(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the epoch and the clip at each position of this process, int64 [N] both."""
        steps, inside = np.divmod(positions, len(self.rows))
        return super().clips(steps * self.batch + self.rows.start + inside)

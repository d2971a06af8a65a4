"""The most recent clips, to mix into others: a ring buffer on the device."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Bank(nn.Module):
    """The last `capacity` clips of a run, each of one shape; first in, first out.

    Its counts are on the device, too. `read` is applied to the clips that are taken, such as
    normalising them.
    """

    ring: Tensor
    cursor: Tensor
    filled: Tensor

    def __init__(
        self,
        capacity: int,
        shape: tuple[int, ...],
        device: torch.device | None = None,
        read: Callable[[Tensor], Tensor] = lambda x: x,
    ) -> None:
        super().__init__()
        self.capacity, self.read = capacity, read
        none = torch.zeros((), dtype=torch.int64, device=device)
        self.register_buffer(
            "ring", torch.zeros(capacity, *shape, dtype=torch.float32, device=device)
        )
        self.register_buffer("cursor", none)  # where the next clip goes
        self.register_buffer("filled", none.clone())

    @torch.no_grad()
    def push(self, x: Tensor) -> None:
        """Store a batch of clips, float32 [N, *shape], the last one as the newest."""
        x = x[-self.capacity :]
        places = (self.cursor + torch.arange(len(x), device=x.device)) % self.capacity
        self.ring.index_copy_(0, places, x)
        self.cursor.add_(len(x)).remainder_(self.capacity)
        self.filled.add_(len(x)).clamp_(max=self.capacity)

    def take(self, ages: Tensor) -> Tensor:
        """Return clips by age, int64 [N], where 0 is the newest: [N, *shape].

        Ages of `filled` and more return `read` of zeros.
        """
        return self.read(self.ring[(self.cursor - 1 - ages) % self.capacity])

    def clips(self) -> Tensor:
        """Return all clips, oldest first [filled, *shape]; waits for the device."""
        return self.take(torch.arange(int(self.filled) - 1, -1, -1, device=self.ring.device))

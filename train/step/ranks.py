"""The processes that train together: this one's rank, and what they exchange."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from audio_barlow_twins.shards.base.errors import UserError

T = TypeVar("T")
CPU = torch.device("cpu")


class AgreedError(UserError):
    """An error that all processes raise alike; only rank 0 reports it."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that share every batch."""

    rank: int = 0
    world: int = 1
    device: torch.device = CPU

    @property
    def first(self) -> bool:
        """Whether this is rank 0, the process that logs and saves."""
        return self.rank == 0

    def rows(self, batch: int) -> range:
        """Return this process's rows of a global batch; sizes differ by one at most."""
        return _rows(batch, self.rank, self.world)

    def gather(self, x: Tensor, batch: int) -> Tensor:
        """Return the rows of all processes in order of rank: [rows, ...] to [batch, ...]."""
        if self.world == 1:
            return x
        longest = -(-batch // self.world)
        padded = x.new_zeros(longest, *x.shape[1:])
        padded[: len(x)] = x
        parts = x.new_empty(self.world, *padded.shape)
        dist.all_gather(list(parts.unbind()), padded)
        sizes = [len(_rows(batch, rank, self.world)) for rank in range(self.world)]
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def largest(self, values: list[float]) -> list[float]:
        """Return the element-wise maximum over all processes; waits for the device."""
        if self.world == 1:
            return values
        agreed = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(agreed, dist.ReduceOp.MAX)
        return agreed.tolist()

    def from_first(self, make: Callable[[], T]) -> T:
        """Run `make` on rank 0 and return its result on all; its UserError becomes AgreedError."""
        told: list[tuple[T | None, str]] = [(None, "")]
        if self.first:
            try:
                told = [(make(), "")]
            except UserError as error:
                told = [(None, str(error))]
        if self.world > 1:
            dist.broadcast_object_list(told, src=0, device=self.device)
        result, reason = told[0]
        if reason:
            raise AgreedError(reason)
        return result  # type: ignore[return-value]


def _rows(batch: int, rank: int, world: int) -> range:
    return range(rank * batch // world, (rank + 1) * batch // world)


@contextmanager
def joined_ranks(device: str, batch: int) -> Iterator[Ranks]:
    """Join the processes that torchrun or Ray Train has started, if it has.

    Raises:
        UserError: device is cuda and there is no GPU, or there are more processes than clips.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    mine = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if world > batch:
        raise UserError(f"{world} processes share a batch of {batch} clips; use fewer --workers")
    if world == 1:
        yield Ranks(device=mine)
        return
    here = not dist.is_initialized()  # Ray Train has joined the group already
    if here:
        _join("nccl" if mine.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), mine)
    finally:
        if here:
            dist.destroy_process_group()


def _join(backend: str) -> None:
    """Join the process group, on one machine under a key prefix for each restart.

    There torchrun keeps its store over a restart, with the addresses of the lost processes (torch
    2.13). Several machines may count restarts differently.
    """
    store, rank, world = next(dist.rendezvous("env://"))
    if os.environ.get("GROUP_WORLD_SIZE") == "1":
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"attempt {attempt}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world)


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """Return this process's device; every process of a machine needs its own GPU.

    Raises:
        UserError: the device is cuda and there is no GPU, or there are more processes than GPUs.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device is cuda, but torch finds no GPU; use --device cpu or auto")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= (found := torch.cuda.device_count()):
        raise UserError(
            f"process {local_rank} of this machine finds {found} GPUs; start one process per GPU"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)

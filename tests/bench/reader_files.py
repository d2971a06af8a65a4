"""One .npy per clip, read and augmented by DataLoader workers, as the paper's authors did."""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from reader_clock import BATCH, Way
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from audio_barlow_twins.shards.stored.shardset import ShardSet

FRAMES = 96
BANK = 2048
CANVAS = 1.5
EPS = torch.finfo(torch.float32).eps


def clips_of(shard_set: ShardSet) -> Iterator[np.ndarray]:
    """Yield the clips of a local log-mel set in order, float16 [T, F] each."""
    for shard, name in enumerate(shard_set.names):
        tar = np.memmap(shard_set.folder / f"{name}.tar", np.uint8, mode="r")
        for clip in range(shard_set.first[shard], shard_set.first[shard + 1]):
            begin = shard_set.offsets[clip]
            size = int(shard_set.n_frames[clip]) * shard_set.form.frame_bytes
            frames = tar[begin : begin + size].view(shard_set.form.dtype)
            yield frames.reshape(-1, *shard_set.form.frame_shape)


def random_crop(clip: np.ndarray) -> Tensor:
    """Copy a random crop out of a clip, [T, F] to [96, F]."""
    start = random.randrange(len(clip) - FRAMES + 1)  # the DataLoader seeds every worker
    return torch.from_numpy(clip[start : start + FRAMES].copy())


class NpyFiles(Dataset):
    """Random crops from a folder with a .npy for every clip.

    `load` opens a file, and `change` augments a crop.
    """

    def __init__(
        self,
        folder: Path,
        load: Callable[[Path], np.ndarray] = np.load,
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.paths = sorted(folder.glob("*.npy"))
        self.load = load
        self.change = change

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        crop = random_crop(self.load(self.paths[index]))
        return self.change(crop) if self.change else crop


class TwoViews:
    """Make two views of a crop as the authors do, a sample at a time on the CPU.

    Mixup, random resize crop and random linear fader of BYOL-A (Niizumi et al., 2022), with the
    paper's ranges. Each worker has its own bank. `mean` and `std` are the data set's.
    """

    def __init__(self, mean: float, std: float) -> None:
        self.mean, self.std = mean, std
        self.bank: deque[Tensor] = deque(maxlen=BANK)

    def __call__(self, crop: Tensor) -> Tensor:
        """Make views of one crop, float16 [T, F] to float32 [2, T, F]."""
        x = (crop.float() - self.mean) / self.std
        views = torch.stack([fade(resize_crop(self.mix(x))) for _ in range(2)])
        self.bank.append(x)
        return views

    def mix(self, x: Tensor) -> Tensor:
        """Mix with an earlier crop, as powers."""
        if not self.bank:
            return x
        share = random.uniform(0, 0.2)
        z = self.bank[random.randrange(len(self.bank))]
        return torch.log((1 - share) * x.exp() + share * z.exp() + EPS)


def resize_crop(x: Tensor) -> Tensor:
    """Cut a random window from a longer canvas of zeros around x and resize it to [T, F]."""
    n_frames, n_mels = x.shape
    canvas = x.new_zeros(int(CANVAS * n_frames), n_mels)
    begin = (len(canvas) - n_frames) // 2
    canvas[begin : begin + n_frames] = x
    width = min(max(int(random.uniform(0.6, 1.5) * n_frames), 1), len(canvas))
    height = min(max(int(random.uniform(0.6, 1.5) * n_mels), 1), n_mels)
    left, top = random.randint(0, len(canvas) - width), random.randint(0, n_mels - height)
    window = canvas[None, None, left : left + width, top : top + height]
    return F.interpolate(window, size=x.shape, mode="bicubic", align_corners=True)[0, 0]


def fade(x: Tensor) -> Tensor:
    """Add a random straight line over time."""
    head, tail = random.uniform(-1, 1), random.uniform(-1, 1)
    return x + torch.linspace(head, tail, len(x))[:, None]


def write_npy(shard_set: ShardSet, folder: Path) -> None:
    """Write every clip of a set as a file."""
    for number, clip in enumerate(clips_of(shard_set)):
        np.save(folder / f"{number:07d}.npy", clip)


def read_npy(folder: Path, workers: int, **how: Callable) -> Iterable:
    """Return batches in shuffled order, with a file opened for every crop."""
    return DataLoader(NpyFiles(folder, **how), BATCH, shuffle=True, num_workers=workers)


def per_file_ways(mean: float, std: float) -> list[Way]:
    """Return the ways that read a file per clip: crops alone, by two ways, and with two views."""
    mapped = partial(np.load, mmap_mode="r")
    return [
        Way(name="one .npy a clip", form="npy", write=write_npy, batches=read_npy),
        Way(name="one .npy a clip, mmap", form="npy", write=write_npy,
            batches=partial(read_npy, load=mapped)),
        Way(name="one .npy a clip + views on CPU", form="npy", write=write_npy,
            batches=partial(read_npy, change=TwoViews(mean, std)), workers=(2,)),
    ]  # fmt: skip

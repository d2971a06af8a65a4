"""Libraries that read shuffled batches of random crops from tars of .npy: WebDataset, Energon,
Lhotse.

All read tars from their beginning to their end, several at a time or in random order, and shuffle
by a buffer of 1000 clips or crops.
"""

import os
import warnings
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import import_module
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from reader_clock import Way
from reader_files import BATCH, FRAMES, clips_of, random_crop
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from audio_barlow_twins.shards.stored.shardset import ShardSet

BUFFER = 1000
HOP_S, SAMPLE_RATE = 0.01, 16_000
webdataset = partial(import_module, "webdataset")
energon = partial(import_module, "megatron.energon")
lhotse = partial(import_module, "lhotse")


def tar_ways() -> list[Way]:
    """Return the ways of libraries that read tars, installed or not."""
    return [
        Way(name="WebDataset, decode()", imports=webdataset, form="shards",
            write=keep_shards, batches=decode_webdataset),
        Way(name="WebDataset, select_files", imports=webdataset, form="shards",
            write=keep_shards, batches=view_webdataset),
        Way(name="Energon", imports=energon, form="energon",
            write=write_energon, batches=read_energon),
        Way(name="Lhotse Shar", imports=lhotse, form="shar",
            write=write_shar, batches=read_shar),
    ]  # fmt: skip


def keep_shards(shard_set: ShardSet, folder: Path) -> None:
    """Do nothing: the tars of a shard set are what WebDataset reads."""


def decode_webdataset(folder: Path, workers: int) -> Iterable:
    """Read stock tars as the documentation begins: everything is read and decoded by its name."""
    wds = webdataset()
    urls = sorted(str(path) for path in folder.glob("*.tar"))
    clips = wds.WebDataset(urls, shardshuffle=len(urls)).decode().to_tuple("npy")
    return shuffled_batches(clips.map(crop_decoded), workers)


def crop_decoded(sample: tuple[np.ndarray]) -> Tensor:
    """Cut a random crop from a WebDataset sample."""
    return random_crop(sample[0])


def view_webdataset(folder: Path, workers: int) -> Iterable:
    """Read only the clips of stock tars, and of their bytes copy only the crops."""
    wds = webdataset()
    urls = sorted(str(path) for path in folder.glob("*.tar"))
    clips = wds.WebDataset(urls, shardshuffle=len(urls), select_files=is_npy).to_tuple("npy")
    return shuffled_batches(clips.map(crop_bytes), workers)


def is_npy(name: str) -> bool:
    """Say whether a member of a tar is a clip."""
    return name.endswith(".npy")


def crop_bytes(sample: tuple[bytes]) -> Tensor:
    """Cut a random crop from the file in a WebDataset sample."""
    return random_crop(view_npy(sample[0]))


def shuffled_batches(crops: Any, workers: int) -> Iterable:
    """Shuffle a WebDataset of crops by a buffer, and batch it in the workers."""
    shuffled = crops.shuffle(BUFFER, initial=100)
    batches = shuffled.batched(BATCH, collation_fn=torch.stack)
    return webdataset().WebLoader(batches, batch_size=None, num_workers=workers)


def view_npy(data: bytes) -> np.ndarray:
    """View the array in the bytes of a .npy file."""
    at, width = npy.MAGIC_LEN, 2 if data[6] == 1 else 4  # the header's length, by version
    begin = at + width + int.from_bytes(data[at : at + width], "little")
    shape, dtype = form_of(data[:begin])
    return np.frombuffer(data, dtype, offset=begin).reshape(shape)


@lru_cache
def form_of(head: bytes) -> tuple[tuple[int, ...], np.dtype]:
    """Parse the header of a .npy file of rows, which many files share."""
    file = BytesIO(head)
    read = {1: npy.read_array_header_1_0, 2: npy.read_array_header_2_0}[npy.read_magic(file)[0]]
    shape, by_columns, dtype = read(file)
    if by_columns:
        raise ValueError("a clip is stored by columns, wanted by rows")
    return shape, dtype


def write_energon(shard_set: ShardSet, folder: Path) -> None:
    """Link the tars, and index them as `energon prepare` does."""
    tars = [f"{name}.tar" for name in shard_set.names]
    for tar in tars:
        os.link(shard_set.folder / tar, folder / tar)
    with redirect_stdout(None):
        energon().BaseWebdatasetFactory.prepare_dataset(
            folder.absolute(), tars, split_parts_ratio=[("train", 1), ("val", 0), ("test", 0)],
            workers=1,
        )  # fmt: skip
    (folder / ".nv-meta" / "dataset.yaml").write_text(
        "__module__: megatron.energon\n__class__: CrudeWebdataset\npart_filter: [npy]\n"
    )


def read_energon(folder: Path, workers: int) -> Iterable:
    """Read one epoch at a time of the training set, as a task encoder crops and batches it."""
    warnings.filterwarnings("ignore", "'pin_memory' argument")  # which is set without a GPU, too
    nrg = energon()
    with redirect_stdout(None):
        data = nrg.get_train_dataset(
            folder.absolute(),
            worker_config=nrg.WorkerConfig(rank=0, world_size=1, num_workers=workers),
            batch_size=BATCH,
            shuffle_buffer_size=BUFFER,
            max_samples_per_sequence=None,
            task_encoder=crop_encoder(),
            repeat=False,
        )
    return nrg.get_loader(data)


def crop_encoder() -> Any:
    """Make a task encoder: files as they are become crops, and crops a batch."""
    nrg = energon()

    @dataclass(kw_only=True)
    class Clip(nrg.Sample):
        """The bytes of a .npy file, and by what Energon finds it again."""

        file: bytes

    @nrg.stateless
    def cook(raw: dict) -> Clip:
        return Clip(**nrg.basic_sample_keys(raw), file=raw["npy"])

    class CropEncoder(nrg.TaskEncoder):
        """Cut a random crop from each clip."""

        decoder = None
        cookers = (nrg.Cooker(cook),)

        def encode_sample(self, sample: Clip) -> Tensor:
            return random_crop(view_npy(sample.file))

        def batch(self, samples: list[Tensor]) -> Tensor:
            return torch.stack(samples)

    return CropEncoder()


def write_shar(shard_set: ShardSet, folder: Path) -> None:
    """Write the clips as features of cuts, in shards of as many clips as the set's."""
    shar = import_module("lhotse.shar")
    shard_size = max(end - begin for begin, end in pairwise(shard_set.first))
    with shar.SharWriter(folder, fields={"features": "numpy"}, shard_size=shard_size) as writer:
        for number, clip in enumerate(clips_of(shard_set)):
            writer.write(cut_of(f"{number:07d}", clip))


def cut_of(name: str, clip: np.ndarray) -> Any:
    """Describe a clip held in memory to Lhotse, float16 [T, F]."""
    lib = lhotse()
    duration = len(clip) * HOP_S
    held = import_module("lhotse.features.io").MemoryRawWriter().write("", clip)
    features = lib.Features(
        type="fbank", num_frames=len(clip), num_features=clip.shape[1], frame_shift=HOP_S,
        sampling_rate=SAMPLE_RATE, start=0, duration=duration, channels=0,
        storage_type="memory_raw", storage_path="", storage_key=held,
    )  # fmt: skip
    return lib.MonoCut(id=name, start=0, duration=duration, channel=0, features=features)


class Crops(Dataset):
    """Make a batch of the cuts that a sampler chose."""

    def __getitem__(self, cuts: Iterable) -> Tensor:
        return torch.stack([torch.from_numpy(cut.load_features().copy()) for cut in cuts])


def read_shar(folder: Path, workers: int) -> Iterable:
    """Read shards in random order, shuffle cuts by a buffer, and load what is left of each."""
    lib, data = lhotse(), import_module("lhotse.dataset")
    cuts = lib.CutSet.from_shar(
        in_dir=folder, shuffle_shards=True, split_for_dataloading=True, seed=0
    )
    cuts = cuts.shuffle(buffer_size=BUFFER)
    crops = cuts.truncate(max_duration=FRAMES * HOP_S, offset_type="random", preserve_id=True)
    sampler = data.SimpleCutSampler(crops, max_cuts=BATCH, shuffle=False)
    batches = data.IterableDatasetWrapper(Crops(), sampler, auto_increment_epoch=True)
    return DataLoader(batches, batch_size=None, num_workers=workers)

"""Libraries that read shuffled batches of random crops from tables: Hugging Face datasets from
Arrow, Ray Data from Parquet."""

import logging
import os
import random
import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from importlib import import_module
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import reader_rows
import torch
from reader_clock import Way
from reader_files import BATCH, FRAMES, clips_of, random_crop
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from audio_barlow_twins.shards.stored.shardset import ShardSet

MELS = 64
BUFFER = 1000
STORE_BYTES = 1 << 30
"""Of Ray's shared memory, which holds the crops that are not yet read."""
COPIES = 8
"""Names of every Parquet file. Ray takes seconds to start a pass, in which it would make all crops
of a small set, so that no clock could tell how many it makes a second."""
hf_datasets = partial(import_module, "datasets")
ray_data = partial(import_module, "ray.data")


def column_ways() -> list[Way]:
    """Return the ways of libraries that read tables, installed or not."""
    return [
        Way(name="HF datasets, torch format", imports=hf_datasets, form="arrow",
            write=write_arrow, batches=read_torch_format),
        Way(name="HF datasets, Arrow format", imports=hf_datasets, form="arrow",
            write=write_arrow, batches=read_arrow_format),
        Way(name="Ray Data", imports=ray_data, form="parquet",
            write=write_parquet, batches=read_parquet, workers=(0,)),
    ]  # fmt: skip


def write_arrow(shard_set: ShardSet, folder: Path) -> None:
    """Write one Arrow file of flattened clips, which must have the same length."""
    hf = hf_datasets()
    hf.disable_progress_bars()
    size = int(shard_set.n_frames[0]) * shard_set.form.frame_bytes // 2
    schema = pa.schema({"clip": pa.list_(pa.float16(), size)})
    scratch = folder / "clips.parquet"
    with pq.ParquetWriter(scratch, schema, compression="none") as writer:
        for clip in clips_of(shard_set):
            flat = pa.FixedSizeListArray.from_arrays(pa.array(clip.ravel()), size)
            writer.write_table(pa.table([flat], schema))
    data = hf.Dataset.from_parquet(str(scratch), cache_dir=str(folder / "cache"))
    data.save_to_disk(str(folder))
    del data
    scratch.unlink()
    shutil.rmtree(folder / "cache")


def read_torch_format(folder: Path, workers: int) -> Iterable:
    """Read whole clips as tensors, as documented for PyTorch, and crop them."""
    data = hf_datasets().load_from_disk(str(folder)).with_format("torch", dtype=torch.float16)
    return DataLoader(data, BATCH, shuffle=True, num_workers=workers, collate_fn=crop_flat)


def crop_flat(records: list[dict]) -> Tensor:
    """Cut a random crop from the flat clip of every record."""
    clips = [record["clip"].view(-1, MELS).numpy() for record in records]
    return default_collate([random_crop(clip) for clip in clips])


class ArrowRows(Dataset):
    """Crops from batches of Arrow rows: only the crops are converted."""

    def __init__(self, folder: Path) -> None:
        self.data = hf_datasets().load_from_disk(str(folder)).with_format("arrow")

    def __len__(self) -> int:
        return len(self.data)

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        column = self.data[indices].column("clip")
        return [
            random_crop(clip)
            for chunk in column.chunks
            for clip in chunk.flatten().to_numpy().reshape(len(chunk), -1, MELS)
        ]


def read_arrow_format(folder: Path, workers: int) -> Iterable:
    """Read the rows of a batch at once, without conversion."""
    return DataLoader(ArrowRows(folder), BATCH, shuffle=True, num_workers=workers)


def write_parquet(shard_set: ShardSet, folder: Path) -> None:
    """Write a Parquet file of bytes for every shard, by several names; clips have one length."""
    size = int(shard_set.n_frames[0]) * shard_set.form.frame_bytes
    clips = clips_of(shard_set)
    for copy in range(COPIES):
        (folder / str(copy)).mkdir()
    for name, (begin, end) in zip(shard_set.names, pairwise(shard_set.first), strict=True):
        rows = [clip.tobytes() for clip in islice(clips, int(end - begin))]
        table = pa.table({"clip": pa.array(rows, pa.binary(size))})
        first, *others = [folder / str(copy) / f"{name}.parquet" for copy in range(COPIES)]
        pq.write_table(table, first, compression="none", use_dictionary=False)
        for other in others:
            os.link(first, other)


class RayCrops:
    """Batches of a Ray data set of crops, shuffled by a buffer; a pass an iteration."""

    def __init__(self, crops: Any) -> None:
        self.crops = crops

    def __iter__(self) -> Iterator[Tensor]:
        batches = self.crops.iter_batches(
            batch_size=BATCH, local_shuffle_buffer_size=BUFFER, prefetch_batches=4
        )
        return (torch.from_numpy(batch["crop"]) for batch in batches)


def read_parquet(folder: Path, workers: int) -> Iterable:
    """Read files in random order, all by one name before the next, and crop their clips in Ray's
    processes, one for each core."""
    data = ray_data()
    import_module("ray").init(  # it ends with this process
        address="local", include_dashboard=False, logging_level=logging.ERROR,
        log_to_driver=False, object_store_memory=STORE_BYTES,
    )  # fmt: skip
    # Ray's processes need not find the module, however this one was started.
    import_module("ray.cloudpickle").register_pickle_by_value(reader_rows)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    data.DataContext.get_current().enable_progress_bars = False
    names = [list(map(str, (folder / str(copy)).iterdir())) for copy in range(COPIES)]
    paths = [path for copy in names for path in random.sample(copy, len(copy))]
    clips = data.read_parquet(paths)
    crops = clips.map_batches(reader_rows.crop_rows, batch_format="pyarrow", fn_args=(FRAMES, MELS))
    return RayCrops(crops)

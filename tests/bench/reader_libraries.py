"""Other libraries that read shuffled batches of random crops from stored clips.

Each reads its own format of the same clips as its documentation advises. If it can read less than a
clip or skip its usual decoding, that is a second way. Crops are cut before batches are formed. Here
are those that keep records in chunks, LitData and MosaicML Streaming.
"""

import importlib
import importlib.util
import json
import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from reader_clock import Way
from reader_columns import column_ways
from reader_files import BATCH, FRAMES, clips_of, random_crop
from reader_tars import tar_ways
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from audio_barlow_twins.shards.stored.shardset import ShardSet

CHUNK_BYTES = 1 << 26
"""File size for LitData and MosaicML, which is the default of both."""


def library_ways() -> list[Way]:
    """Return the ways of all libraries, installed or not."""
    return [*tar_ways(), *chunk_ways(), *column_ways()]


def chunk_ways() -> list[Way]:
    """Return the ways of libraries that store records in chunks, installed or not."""
    return [
        Way(name="LitData StreamingDataset", imports=litdata, form="litdata",
            write=write_litdata, batches=read_litdata),
        Way(name="LitData read_window", imports=litdata, form="litdata-windows",
            write=write_windows, batches=read_windows),
        Way(name="MosaicML StreamingDataset", imports=mosaicml, form="mds",
            write=write_mds, batches=stream_mds),
        Way(name="MosaicML LocalDataset", imports=mosaicml, form="mds",
            write=write_mds, batches=read_mds),
    ]  # fmt: skip


def litdata() -> ModuleType:
    """Import LitData without its version check on PyPI."""
    os.environ["LITDATA_DISABLE_VERSION_CHECK"] = "1"
    return importlib.import_module("litdata")


def mosaicml() -> ModuleType:
    """Import the base of MosaicML Streaming.

    Its `__init__.py` imports torchvision for image sets; skipping it saves that dependency.

    Raises:
        ImportError: MosaicML Streaming is not installed.
    """
    if "streaming" not in sys.modules:
        if (spec := importlib.util.find_spec("streaming")) is None:
            raise ModuleNotFoundError("No module named 'streaming'")
        sys.modules["streaming"] = importlib.util.module_from_spec(spec)
    return importlib.import_module("streaming.base")


def write_litdata(shard_set: ShardSet, folder: Path) -> None:
    """Optimise the clips as tensors."""
    optimize(tensors_of, shard_set, folder)


def write_windows(shard_set: ShardSet, folder: Path) -> None:
    """Optimise the clips as records from which frames can be read alone."""
    optimize(records_of, shard_set, folder, item_loader=litdata().TemporalArrayLoader())


def optimize(clips: Callable[[ShardSet], Iterator], shard_set: ShardSet, out: Path, **how) -> None:
    """Run LitData's optimizer on a set, with its scratch files beside `out`."""
    os.environ["DATA_OPTIMIZER_CACHE_FOLDER"] = str(out.with_name(f"{out.name}-scratch"))
    litdata().optimize(
        clips, [shard_set], str(out), chunk_bytes=CHUNK_BYTES, num_workers=1, verbose=False, **how
    )


def tensors_of(shard_set: ShardSet) -> Iterator[Tensor]:
    """Yield all clips of a set as tensors."""
    for clip in clips_of(shard_set):
        yield torch.from_numpy(clip.copy())


def records_of(shard_set: ShardSet) -> Iterator[dict[str, np.ndarray]]:
    """Yield all clips of a set as records of one field."""
    for clip in clips_of(shard_set):
        yield {"clip": np.array(clip)}


def read_litdata(folder: Path, workers: int) -> Iterable:
    """Stream whole clips and crop them in the data set's transform."""
    lit = litdata()
    data = lit.StreamingDataset(str(folder), shuffle=True, transform=crop_tensor)
    return lit.StreamingDataLoader(data, batch_size=BATCH, num_workers=workers)


def crop_tensor(clip: Tensor) -> Tensor:
    """Cut a random crop from a clip [T, F]."""
    return random_crop(clip.numpy())


class LitWindows(Dataset):
    """Random access to windows of frames, which LitData reads without the rest of the clip."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.frames = np.concatenate([
            chunk["temporal_frames"]
            for chunk in json.loads((folder / "index.json").read_text())["chunks"]
        ]).tolist()  # fmt: skip
        self.opened: Any = None

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Tensor:
        if self.opened is None:  # every process must open its own
            lit = litdata()
            self.opened = lit.StreamingDataset(
                str(self.folder), item_loader=lit.TemporalArrayLoader()
            )
        start = random.randrange(self.frames[index] - FRAMES + 1)
        return torch.from_numpy(self.opened.read_window(index, start, FRAMES)["clip"])


def read_windows(folder: Path, workers: int) -> Iterable:
    """Read windows in shuffled order."""
    return DataLoader(LitWindows(folder), BATCH, shuffle=True, num_workers=workers)


def write_mds(shard_set: ShardSet, folder: Path) -> None:
    """Write the clips as arrays of one shape."""
    shape = ",".join(map(str, (shard_set.n_frames[0], *shard_set.form.frame_shape)))
    columns = {"clip": f"ndarray:float16:{shape}"}
    with mosaicml().MDSWriter(out=str(folder), columns=columns, size_limit=CHUNK_BYTES) as writer:
        for clip in clips_of(shard_set):
            writer.write({"clip": clip})


def stream_mds(folder: Path, workers: int) -> Iterable:
    """Stream whole clips and crop them."""
    mds = mosaicml()
    data = mds.StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH)
    return mds.StreamingDataLoader(
        data, batch_size=BATCH, num_workers=workers, collate_fn=crop_records
    )


def read_mds(folder: Path, workers: int) -> Iterable:
    """Read whole clips in shuffled order from the library's set for random access."""
    data = mosaicml().LocalDataset(str(folder))
    return DataLoader(data, BATCH, shuffle=True, num_workers=workers, collate_fn=crop_records)


def crop_records(records: list[dict]) -> Tensor:
    """Cut a random crop from the clip [T, F] of every record."""
    return default_collate([random_crop(record["clip"]) for record in records])

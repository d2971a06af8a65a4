"""Embeddings of sound files as a Parquet table: file, duration_s, embedding."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from eval.audio import AudioError, find_audio, read_audio
from eval.config import EmbedConfig
from eval.hear import (
    HearModel,
    checkpoint_facts,
    frozen_model,
    get_scene_embeddings,
    read_checkpoint,
)
from shards.cli import UserError
from shards.files import replacing

log = logging.getLogger(__name__)

MAX_DURATION_S = 600
ROWS_PER_GROUP = 1024


@dataclass(frozen=True)
class Embedded:
    """The embedding of one sound file."""

    file: Path
    duration_s: float
    embedding: np.ndarray
    """float32 [D]."""


def embed_files(files: Iterable[Path], model: HearModel) -> Iterator[Embedded]:
    """Embed sound files one after another, each as a whole.

    Args:
        files: of any format that libsndfile reads, any rate and number of channels.
        model: from `load_model`.

    Raises:
        AudioError: a file cannot be read, is empty, or is longer than ten minutes.
    """
    for file in files:
        wave = read_audio(Path(file), model.sample_rate)
        duration_s = len(wave) / model.sample_rate
        if duration_s > MAX_DURATION_S:
            raise AudioError(
                f"{file}: lasts {duration_s:.0f} s, but a clip is embedded as a whole, up to "
                f"{MAX_DURATION_S} s; cut it"
            )
        embedding = get_scene_embeddings(torch.from_numpy(wave)[None], model)[0]
        yield Embedded(Path(file), duration_s, embedding.cpu().numpy())


def write_embeddings(
    rows: Iterable[Embedded], out: Path, width: int, metadata: Mapping[str, str]
) -> None:
    """Write embeddings of `width` features to a Parquet file, complete or not at all."""
    schema = pa.schema(
        [
            pa.field("file", pa.string(), nullable=False),
            pa.field("duration_s", pa.float64(), nullable=False),
            pa.field("embedding", pa.list_(pa.float32(), width), nullable=False),
        ],
        metadata=dict(metadata),
    )
    try:
        with replacing(out) as scratch, pq.ParquetWriter(scratch, schema) as writer:
            remaining = iter(rows)
            while group := list(islice(remaining, ROWS_PER_GROUP)):
                writer.write_batch(record_batch(group, schema))
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror or error}") from error


def record_batch(group: Sequence[Embedded], schema: pa.Schema) -> pa.RecordBatch:
    """Lay out some rows by column."""
    values = pa.array(np.concatenate([row.embedding for row in group]))
    width = schema.field("embedding").type.list_size
    return pa.record_batch(
        [
            pa.array([str(row.file) for row in group]),
            pa.array([row.duration_s for row in group]),
            pa.FixedSizeListArray.from_arrays(values, width),
        ],
        schema=schema,
    )


def embed_command(config: EmbedConfig) -> None:
    """Run `python -m eval embed`."""
    checkpoint = read_checkpoint(config.checkpoint)
    model = frozen_model(checkpoint, config.device)
    files = find_audio(config.files)
    metadata = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in checkpoint_facts(config.checkpoint, checkpoint).items()
    }
    width = model.scene_embedding_size
    # No bar where nobody watches: tqdm tells by the terminal when disable is None.
    with tqdm(files, desc="embedding", unit="file", disable=None) as progress:
        write_embeddings(embed_files(progress, model), config.out, width, metadata)
    log.info("%d embeddings of %d features written to %s", len(files), width, config.out)

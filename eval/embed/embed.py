"""Embeddings of sound files as a Parquet table: file, duration_s, embedding."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import replacing

from ..config import EmbedConfig
from ..hear import checkpoint_facts, frozen_model, read_checkpoint
from ..sound.audio import find_audio
from .files import Embedded, Failed, embed_files

log = logging.getLogger(__name__)

ROWS_PER_GROUP = 1024


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


def write_failed(failed: Sequence[Failed], out: Path) -> None:
    """Write a line of JSON for each file that could not be used; without any, remove the list."""
    if not failed:
        out.unlink(missing_ok=True)
        return
    lines = (json.dumps({"file": str(row.file), "reason": row.reason}) for row in failed)
    with replacing(out) as scratch:
        scratch.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def counted(rows: Iterable[Embedded], bar: tqdm) -> Iterator[Embedded]:
    """Pass rows on and show how many there were."""
    for row in rows:
        bar.update()
        yield row


def embed_command(config: EmbedConfig) -> None:
    """Run `abt eval embed`."""
    checkpoint = read_checkpoint(config.checkpoint)
    model = frozen_model(checkpoint, config.device)
    files = find_audio(config.files)
    facts = checkpoint_facts(config.checkpoint, checkpoint)
    metadata = {k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items()}
    failed: list[Failed] = []

    def skip(bad: Failed) -> None:
        failed.append(bad)
        bar.update()

    width = model.scene_embedding_size
    # No bar where nobody watches: tqdm tells by the terminal when disable is None.
    with tqdm(total=len(files), desc="embedding", unit="file", disable=None) as bar:
        rows = embed_files(files, model, skip if config.skip_bad else None)
        write_embeddings(counted(rows, bar), config.out, width, metadata)
    write_failed(failed, config.failed_file)
    n_written = len(files) - len(failed)
    log.info("%d embeddings of %d features written to %s", n_written, width, config.out)
    if failed:
        log.warning("%d files could not be used: see %s", len(failed), config.failed_file)

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
from tqdm import tqdm

from audio_barlow_twins.model.embedder import checkpoint_facts, frozen, read_checkpoint
from audio_barlow_twins.shards.base.cli import Positional
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import replacing
from audio_barlow_twins.shards.decode.files import shown

from ..sound.audio import find_audio
from .files import Failed, FileEmbedding, embed_files

log = logging.getLogger(__name__)

ROWS_PER_GROUP = 1024


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Write one embedding for each sound file to a Parquet table."""

    files: Positional[tuple[Path, ...]]
    """Sound files of any rate and length, or folders to search for them."""
    checkpoint: Path
    """Checkpoint that `abt train` wrote."""
    out: Path = Path("embeddings.parquet")
    """Parquet file to write."""
    skip_bad: bool = False
    """Skip files that cannot be used and list them beside OUT, in .failed.jsonl; else, stop."""
    device: str | None = None
    """Where to compute, such as cpu or cuda:1; by default a GPU if there is one."""

    def __post_init__(self) -> None:
        if not self.files:
            raise UserError("no sound files were named; give files or folders")
        if self.out.is_dir():
            raise UserError(f"--out {self.out} is a folder; name a Parquet file")

    @property
    def failed_file(self) -> Path:
        return self.out.with_suffix(".failed.jsonl")

    def run(self) -> None:
        checkpoint = read_checkpoint(self.checkpoint)
        model = frozen(checkpoint, self.device)
        files = find_audio(self.files)
        facts = checkpoint_facts(self.checkpoint, checkpoint)
        metadata = {k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items()}
        failed: list[Failed] = []

        def skip(bad: Failed) -> None:
            failed.append(bad)
            bar.update()

        width = model.scene_embedding_size
        # With disable=None, tqdm draws the bar only on a terminal.
        with tqdm(total=len(files), desc="embedding", unit="file", disable=None) as bar:
            rows = embed_files(files, model, skip if self.skip_bad else None)
            write_embeddings(_counted(rows, bar), self.out, width, metadata)
        write_failed(failed, self.failed_file)
        n_written = len(files) - len(failed)
        log.info("%d embeddings of %d features written to %s", n_written, width, self.out)
        if failed:
            log.warning("%d files could not be used: see %s", len(failed), self.failed_file)


def write_embeddings(
    rows: Iterable[FileEmbedding], out: Path, width: int, metadata: Mapping[str, str]
) -> None:
    """Write embeddings of `width` features to a Parquet file atomically."""
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
                writer.write_batch(_record_batch(group, schema))
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror or error}") from error


def _record_batch(group: Sequence[FileEmbedding], schema: pa.Schema) -> pa.RecordBatch:
    values = pa.array(np.concatenate([row.embedding for row in group]))
    width = schema.field("embedding").type.list_size
    return pa.record_batch(
        [
            pa.array([shown(row.file) for row in group]),
            pa.array([row.duration_s for row in group]),
            pa.FixedSizeListArray.from_arrays(values, width),
        ],
        schema=schema,
    )


def write_failed(failed: Sequence[Failed], out: Path) -> None:
    """Write failed files as JSON lines; without any, remove the list of an earlier run."""
    if not failed:
        out.unlink(missing_ok=True)
        return
    lines = (json.dumps({"file": shown(row.file), "reason": row.reason}) for row in failed)
    with replacing(out) as scratch:
        scratch.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _counted(rows: Iterable[FileEmbedding], bar: tqdm) -> Iterator[FileEmbedding]:
    for row in rows:
        bar.update()
        yield row

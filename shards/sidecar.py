"""The Parquet sidecar of a shard: its commit record, one row for every clip that was planned."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shards.cli import UserError
from shards.files import replacing
from shards.form import FORMAT_VERSION, Form
from shards.statistics import Statistics

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("failure", pa.string()),
        pa.field("message", pa.string()),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_version", pa.string(), nullable=False),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("labels", pa.list_(pa.string()), nullable=False),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
        pa.field("record_offset", pa.int64()),
        pa.field("record_bytes", pa.int64()),
        pa.field("offset", pa.int64()),
        pa.field("n_frames", pa.int64()),
        pa.field("checksum", pa.string()),
        pa.field("mean", pa.float64()),
        pa.field("m2", pa.float64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is known about one planned clip; the lower half is None for a clip that failed."""

    key: str
    """Name inside the tar: no dot, no slash, unique in the set."""
    status: str
    """`ok` or `failed`."""
    failure: str | None = None
    """Class of the failure, such as `bad_audio`."""
    message: str | None = None
    """Why, for people."""
    attempts: int = 1
    """How often the clip was tried."""
    source: str
    """Which source delivered it: folder, demo, ..."""
    source_version: str
    """The tool that decoded it, with its version."""
    origin: str
    """Where it came from inside the source: a relative path, a video id."""
    labels: list[str]
    """Class labels, in the source's order."""
    start_s: float | None = None
    """Begin of the clip in its origin, seconds."""
    end_s: float | None = None
    """End of the clip in its origin, seconds."""
    record_offset: int | None = None
    """First byte of the clip's members in the tar, their headers included."""
    record_bytes: int | None = None
    """Length of those members, headers and padding included."""
    offset: int | None = None
    """First byte of the first frame in the tar."""
    n_frames: int | None = None
    """Steps along time: frames of a logmel clip, samples of a wave clip."""
    checksum: str | None = None
    """BLAKE2b-128 of the `record_bytes` from `record_offset`."""
    mean: float | None = None
    """Mean of the clip's values (wave: in units of full scale)."""
    m2: float | None = None
    """Sum of their squared deviations from `mean`."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a sidecar says about its whole shard, kept in the Parquet footer."""

    form: Form
    plan: str
    """Hash of the clips that were planned for the shard."""
    tar_bytes: int
    """Size of the tar."""
    n_ok: int
    """Clips that are in the tar."""
    checksum: str
    """Hash over the keys and checksums of all rows."""
    statistics: Statistics


def rows_checksum(rows: Sequence[Row]) -> str:
    """Hash keys and clip checksums in their order, 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    for row in rows:
        digest.update(f"{row.key}\0{row.checksum or row.failure}\n".encode())
    return digest.hexdigest()


def write_sidecar(path: Path, rows: Sequence[Row], summary: Summary) -> None:
    """Commit a shard: write its sidecar in one atomic step."""
    metadata = {
        "format_version": FORMAT_VERSION,
        "kind": summary.form.kind,
        "front_end": summary.form.parameters,
        "front_end_hash": summary.form.digest,
        "plan": summary.plan,
        "tar_bytes": summary.tar_bytes,
        "n_ok": summary.n_ok,
        "checksum": summary.checksum,
        "statistics": asdict(summary.statistics),
    }
    metadata["integrity"] = _integrity(metadata, rows)
    schema = SCHEMA.with_metadata({key: json.dumps(value) for key, value in metadata.items()})
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=schema)
    with replacing(path) as scratch:
        pq.write_table(table, scratch)


def is_intact(path: Path, rows: Sequence[Row]) -> bool:
    """Tell whether a sidecar's footer and `rows` are what was written, by their own hash."""
    metadata = _values(pq.read_schema(path).metadata)
    return metadata.pop("integrity", None) == _integrity(metadata, rows)


def _integrity(metadata: Mapping[str, Any], rows: Sequence[Row]) -> str:
    text = json.dumps([metadata, [asdict(row) for row in rows]], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def read_summary(path: Path) -> Summary:
    """Read a sidecar's footer alone.

    Raises:
        UserError: the file is no sidecar, a damaged one, or one of another format version.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable sidecar ({_first_line(error)})") from error
    if b"format_version" not in metadata:
        raise UserError(f"{path} is a Parquet file, but no sidecar of ours")
    try:
        return _summary(path, metadata)
    except UserError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} has a damaged footer ({_first_line(error)})") from error


def _summary(path: Path, metadata: dict[bytes, bytes]) -> Summary:
    values = _values(metadata)
    if values["format_version"] != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {values['format_version']}, this code reads "
            f"{FORMAT_VERSION}; make the set again with `python -m ingest`"
        )
    form = Form(values["kind"], values["front_end"])
    if form.digest != values["front_end_hash"]:
        raise UserError(f"{path}: the front-end does not match its own hash; the file was edited")
    return Summary(
        form=form,
        plan=values["plan"],
        tar_bytes=values["tar_bytes"],
        n_ok=values["n_ok"],
        checksum=values["checksum"],
        statistics=Statistics(**values["statistics"]),
    )


def _values(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    """Parse what `write_sidecar` put into a Parquet footer."""
    own = {key: value for key, value in metadata.items() if key != b"ARROW:schema"}
    return {key.decode(): json.loads(value) for key, value in own.items()}


def read_rows(path: Path) -> list[Row]:
    """Read every row of a sidecar.

    Raises:
        UserError: the file is damaged.
    """
    try:
        table = pq.read_table(path)
        if table.schema != SCHEMA:
            raise UserError(f"{path} does not have the columns of a sidecar")
        return [Row(**row) for row in table.to_pylist()]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({_first_line(error)})") from error


def read_clip(tar: BinaryIO, row: Row, form: Form) -> np.ndarray:
    """Read the whole array of one clip from its open tar: [n_frames, *frame_shape].

    Raises:
        UserError: the tar ends before the clip does.
    """
    if row.offset is None or row.n_frames is None:
        raise ValueError(f"clip {row.key} is not in the tar: {row.failure}")
    tar.seek(row.offset)
    data = tar.read(row.n_frames * form.frame_bytes)
    if len(data) < row.n_frames * form.frame_bytes:
        raise UserError(f"{tar.name} ends inside clip {row.key}; run `python -m shards verify`")
    return np.frombuffer(data, form.dtype).reshape(-1, *form.frame_shape).copy()


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]

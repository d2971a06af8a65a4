"""The Parquet sidecar of a shard: its commit record, one row for every clip that was planned."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..base.digest import digest, digest_of
from ..base.errors import UserError, first_line
from ..base.files import replacing
from ..base.place import is_remote, reaching
from .form import FORMAT_VERSION, Form
from .statistics import Statistics

EVENTS = pa.list_(
    pa.struct([("label", pa.string()), ("start_s", pa.float64()), ("end_s", pa.float64())])
)
SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("failure", pa.string()),
        pa.field("message", pa.string()),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("tried_at", pa.timestamp("ms", tz="UTC")),  # Parquet has no unit of seconds
        pa.field("identity", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_version", pa.string(), nullable=False),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("labels", pa.list_(pa.string()), nullable=False),
        pa.field("events", EVENTS, nullable=False),
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
    """What is known of one planned clip; from `record_offset` on None for a clip that failed."""

    key: str
    """Name inside the tar: no dot, no slash, unique in the set."""
    status: str
    """`ok` or `failed`."""
    failure: str | None = None
    """Class of the failure, such as `bad_audio`."""
    message: str | None = None
    """Reason, for people."""
    attempts: int = 1
    tried_at: datetime | None = None
    """Time of the last try: UTC, whole seconds; see `now`."""
    identity: str = ""
    """Address, proxy or cookie jar that fetched it, '' where none was needed."""
    source: str
    """Name of the source that delivered it: folder, demo, ..."""
    source_version: str
    """The tool that decoded it, with its version."""
    origin: str
    """Where it came from inside the source: a relative path, a video id."""
    labels: list[str]
    """Class labels, in the source's order."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """Strong labels: `label`, `start_s` and `end_s`, in seconds from the start of the clip."""
    start_s: float | None = None
    """Start of the clip in its origin, seconds."""
    end_s: float | None = None
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
    """What a sidecar's Parquet footer says about the whole shard."""

    form: Form
    plan: str
    """Hash of the clips that were planned for the shard."""
    tar_bytes: int
    n_ok: int
    """Clips in the tar."""
    checksum: str
    """Hash over the keys and checksums of all rows."""
    statistics: Statistics


def now() -> datetime:
    """Return the current time as rows keep it: UTC, whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def rows_checksum(rows: Sequence[Row]) -> str:
    """Return a hash of keys and clip checksums in their order, 32 hex digits."""
    return digest("".join(f"{row.key}\0{row.checksum or row.failure}\n" for row in rows))


def write_sidecar(path: Path, rows: Sequence[Row], summary: Summary) -> None:
    """Commit a shard: write its sidecar atomically."""
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
    table = pa.Table.from_pylist([vars(row) for row in rows], schema=schema)
    with replacing(path) as scratch:
        pq.write_table(table, scratch)


def _integrity(metadata: Mapping[str, Any], rows: Sequence[Row]) -> str:
    return digest_of([metadata, [vars(row) for row in rows]])


class Sidecar:
    """A sidecar to read from: a local file in place, a remote one fetched whole, once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content = b""
        if is_remote(path):
            with reaching(path):
                self._content = path.read_bytes()

    def _source(self) -> Any:
        return pa.BufferReader(self._content) if is_remote(self.path) else self.path

    def summary(self) -> Summary:
        """Read the footer alone.

        Raises:
            UserError: the file is no sidecar, a damaged one, or one of another format version.
        """
        path = self.path
        try:
            metadata = pq.read_schema(self._source()).metadata or {}
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not a readable sidecar ({first_line(error)})") from error
        if b"format_version" not in metadata:
            raise UserError(f"{path} is a Parquet file, but no sidecar of ours")
        try:
            return _summary(path, metadata)
        except UserError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} has a damaged footer ({first_line(error)})") from error

    def count(self) -> int:
        """Return the number of planned clips, from the footer."""
        return pq.read_metadata(self._source()).num_rows

    def rows(self) -> list[Row]:
        """Read every row; raise UserError if the file is damaged."""
        try:
            table = pq.read_table(self._source())
            if table.schema == SCHEMA:
                return [Row(**row) for row in table.to_pylist()]
        except (pa.ArrowException, OSError, OverflowError, ValueError) as error:
            raise UserError(f"{self.path} is damaged ({first_line(error)})") from error
        raise UserError(f"{self.path} does not have the columns of a sidecar")

    def present(self, *columns: str) -> pa.Table:
        """Read some columns of the clips that are in the tar."""
        return pq.read_table(self._source(), columns=list(columns)).drop_null()

    def is_intact(self, rows: Sequence[Row]) -> bool:
        """Tell whether footer and `rows` match the sidecar's own hash."""
        metadata = _values(pq.read_schema(self._source()).metadata)
        return metadata.pop("integrity", None) == _integrity(metadata, rows)


def read_summary(path: Path) -> Summary:
    """Read a sidecar's footer alone; see `Sidecar.summary`."""
    return Sidecar(path).summary()


def read_rows(path: Path) -> list[Row]:
    """Read every row of a sidecar; see `Sidecar.rows`."""
    return Sidecar(path).rows()


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Read some columns of every row; raise UserError if the file is damaged."""
    try:
        return pq.read_table(Sidecar(path)._source(), columns=list(columns))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is damaged ({first_line(error)})") from error


def _summary(path: Path, metadata: dict[bytes, bytes]) -> Summary:
    values = _values(metadata)
    if values["format_version"] != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {values['format_version']}, this code reads "
            f"{FORMAT_VERSION}; make the set again with `abt ingest`"
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


def read_clip(tar: BinaryIO, row: Row, form: Form) -> np.ndarray:
    """Read the array of one clip from its open tar: [n_frames, *frame_shape].

    Raises:
        UserError: the tar ends before the clip does.
    """
    if row.offset is None or row.n_frames is None:
        raise ValueError(f"clip {row.key} is not in the tar: {row.failure}")
    tar.seek(row.offset)
    data = tar.read(row.n_frames * form.frame_bytes)
    if len(data) < row.n_frames * form.frame_bytes:
        name = getattr(tar, "name", None) or getattr(tar, "path", "the tar")  # a file, an object
        raise UserError(f"{name} ends inside clip {row.key}; run `abt shards verify`")
    return np.frombuffer(data, form.dtype).reshape(-1, *form.frame_shape).copy()

"""A source of clips: Parquet tables as Hugging Face stores audio, here or behind an fsspec URL."""

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from audio_barlow_twins.shards.base.cli import Positional
from audio_barlow_twins.shards.base.errors import UserError, first_line
from audio_barlow_twins.shards.decode.files import shown

from .clip import Clip, RowOfTable, as_text, clip_keys
from .labels import BadLabels, as_labels, head_of, value_at
from .remote.open import listed_size, opened_to_list
from .remote.urls import find_urls, short_names
from .source import NamedSource

log = logging.getLogger(__name__)
Steps = tuple[str, ...]
"""A column, and the fields inside it that lead to a value."""


@dataclass(frozen=True, kw_only=True)
class Parquet(NamedSource):
    """Ingest Parquet tables of audio as Hugging Face stores them (`audio` with bytes and path).

    Row groups may be of any size: they are read in order, and a page of audio is in memory.
    """

    name = "parquet"

    urls: Positional[tuple[str, ...]]
    """Tables, folders of tables or patterns; paths, or URLs that fsspec opens."""
    audio_field: str = "audio"
    """Column that holds the audio files: a struct with bytes and path, or bytes alone; a path such
    as data.audio leads into structs."""
    key_field: str = ""
    """Column that names a row, such as video_id; default, and where it is empty: the name of the
    audio file."""
    label_field: str = ""
    """Column that holds a label or a list of them, such as human_labels; a path such as tags.name
    leads into structs, and lists of them; numbers become the names of their ClassLabel, where the
    table has one; default: none."""

    def files(self) -> list[Clip]:
        return table_clips(self.urls, self.key_field, self.label_field, self.audio_field)


@dataclass(frozen=True)
class _Listed:
    """One row of a table, without its audio."""

    url: str
    row: RowOfTable
    name: str
    file: str
    labels: tuple[str, ...]
    refused: str


def table_clips(
    urls: tuple[str, ...], key_field: str, label_field: str, audio_field: str = "audio"
) -> list[Clip]:
    """List the rows of tables, in the order of the tables and of their rows; see `Parquet`.

    Raises:
        UserError: there is no table, no row, or a column is missing or of another type.
    """
    tables = find_urls(urls, "parquet")
    short = short_names(tables)
    listed = [row for url in tables for row in _rows(url, key_field, label_field, audio_field)]
    if not listed:
        raise UserError(f"the tables of {' '.join(urls)} have no row")
    names = [f"{row.name or row.row.number}.audio" for row in listed]
    origins = [f"{short[row.url]}/{row.row.group}/{row.row.number}/{row.file}" for row in listed]
    return [
        Clip(
            key=key,
            source=f"parquet {shown(PurePosixPath(row.url).parent.name)}",
            path=row.url,
            origin=as_text(origin),
            name=row.name,
            labels=row.labels,
            row=row.row,
            refused=row.refused,
            archive_bytes=listed_size(row.url),
        )
        for key, row, origin in zip(clip_keys(origins, names), listed, origins, strict=True)
    ]


def _rows(url: str, key_field: str, label_field: str, audio_field: str) -> Iterator[_Listed]:
    """Read the small columns of a table."""
    try:
        with opened_to_list(url) as file:
            table = pq.ParquetFile(file)
            columns = _Columns(url, table.schema_arrow, key_field, label_field, audio_field)
            leaves = columns.leaves(table.schema)
            for group in range(table.num_row_groups):
                n_rows = table.metadata.row_group(group).num_rows
                rows = _values(table.read_row_group(group, columns=leaves), n_rows)
                for number, row in enumerate(rows):
                    yield columns.listed(row, group, number)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = first_line(error)
        raise UserError(f"{url} cannot be read as a Parquet table: {reason}") from error


def _values(table: pa.Table, n_rows: int) -> Iterator[dict[str, object]]:
    """Yield the rows of a table; in place of text that is no UTF-8 stands the error."""
    columns = {name: _cells(table[name]) for name in table.column_names}
    for number in range(n_rows):
        yield {name: cells[number] for name, cells in columns.items()}


def _cells(column: pa.ChunkedArray) -> list[object]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_cell(cell) for cell in column]


def _cell(cell: pa.Scalar) -> object:
    try:
        return cell.as_py()
    except UnicodeDecodeError as error:
        return error


class _Columns:
    """Where a table holds names, labels and audio; UserError if it does not."""

    def __init__(
        self, url: str, schema: pa.Schema, key_field: str, label_field: str, audio_field: str
    ) -> None:
        self._url, self._key_field, self._label_field = url, key_field, label_field
        paths = dict.fromkeys(filter(None, (audio_field, key_field, label_field)))
        found = {path: column for path in paths if (column := _find(schema, path))}
        if missing := sorted(paths.keys() - found.keys()):
            raise UserError(
                f"{url} lacks the column {', '.join(missing)}; it has {', '.join(schema.names)}: "
                "see --audio-field, --key-field and --label-field"
            )
        audio, kind = found[audio_field]
        self._path: Steps = (*audio, "path")
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            audio, kind = (*audio, "bytes"), kind.field("bytes").type
        if not (_is_binary(kind) or pa.types.is_null(kind)):
            raise UserError(
                f"{url}: the column {'.'.join(audio)} is {kind}, wanted a struct with bytes and "
                "path, or bytes alone: see --audio-field"
            )
        self._audio = audio
        self._key, kind = found.get(key_field, ((), pa.string()))
        if pa.types.is_nested(kind) or _is_binary(kind):
            raise UserError(
                f"{url}: the column {key_field} is {kind}, wanted text: see --key-field"
            )
        self._labels, _ = found.get(label_field, ((), None))
        self._classes = _class_names(url, schema, self._labels)

    def leaves(self, schema: pq.ParquetSchema) -> list[str]:
        """Return what to read, as Parquet names it, such as `tags.list.element.name`."""
        leaves = [schema.column(number).path for number in range(len(schema))]
        wanted = [self._path, self._key, self._labels]
        return [leaf for leaf in leaves if any(_leads_to(steps, leaf) for steps in wanted)]

    def listed(self, row: dict[str, object], group: int, number: int) -> _Listed:
        """Return what the small columns say of a row."""
        path, key = _at(row, self._path), _at(row, self._key) if self._key else None
        file = PurePosixPath(path if isinstance(path, str) else "")
        labels, refused = tuple[str, ...](), ""
        try:
            if isinstance(key, UnicodeDecodeError):
                raise BadLabels(f"{self._key_field}: {key}")
            value = value_at(row, self._label_field) if self._label_field else None
            labels = as_labels(value, self._label_field, self._classes)
        except BadLabels as error:
            table = PurePosixPath(self._url).name
            refused = as_text(f"{table}, row {number} of row group {group}: {error}")
        named = not (key is None or isinstance(key, UnicodeDecodeError))
        return _Listed(
            url=self._url,
            row=RowOfTable(group, number, self._audio),
            name=(str(key) if named else "") or file.stem,
            file=file.name or "audio",
            labels=labels,
            refused=refused,
        )


def _find(fields: Iterable[pa.Field], path: str) -> tuple[Steps, pa.DataType] | None:
    """Return the steps to what a path such as `tags.name` names, and its type.

    The type is a list where lists are on the way; None where there is no such field.
    """
    kinds = {field.name: field.type for field in fields}
    head = head_of(kinds, path)
    if head is None or head == path:
        return None if head is None else ((head,), kinds[head])
    inner = kinds[head]
    while pa.types.is_list(inner) or pa.types.is_large_list(inner):
        inner = inner.value_type
    found = _find(inner, path[len(head) + 1 :]) if pa.types.is_struct(inner) else None
    if found is None:
        return None
    steps, kind = found
    return (head, *steps), kind if inner is kinds[head] else pa.list_(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _leads_to(steps: Steps, leaf: str) -> bool:
    """Tell whether a leaf column is what steps lead to, or part of it; lists add names between."""
    if not steps:
        return False
    top, *inner = steps
    if leaf == top or not leaf.startswith(f"{top}."):
        return leaf == top
    names = iter(leaf[len(top) + 1 :].split("."))
    return all(part in names for step in inner for part in step.split("."))


def _at(row: object, steps: Steps) -> object:
    """Return what steps lead to in a row; None where a struct is None."""
    for step in steps:
        if isinstance(row, UnicodeDecodeError):
            break
        row = row.get(step) if isinstance(row, dict) else None
    return row


def _class_names(url: str, schema: pa.Schema, steps: Steps) -> list[str]:
    """Return the names of a column's ClassLabel, as Hugging Face keeps them with the table."""
    try:
        feature = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    except (ValueError, RecursionError):
        log.warning("%s: its metadata of Hugging Face is no JSON, so classes keep numbers", url)
        return []
    for step in ("info", "features", *steps):
        feature = _without_lists(feature)
        feature = feature.get(step) if isinstance(feature, dict) else None
    feature = _without_lists(feature)
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return []
    names = feature.get("names")
    return [str(name) for name in names] if isinstance(names, list) else []


def _without_lists(feature: object) -> object:
    """Return the feature of a list's items, however its version of the library writes lists."""
    while True:
        if isinstance(feature, list) and len(feature) == 1:
            feature = feature[0]
        elif isinstance(feature, dict) and feature.get("_type") in (
            "Sequence",
            "List",
            "LargeList",
        ):
            feature = feature.get("feature")
        else:
            return feature

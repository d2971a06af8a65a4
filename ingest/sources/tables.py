"""A source of clips: Parquet tables as Hugging Face stores audio, here or behind an fsspec URL."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from audio_barlow_twins.shards.base.cli import Positional
from audio_barlow_twins.shards.base.errors import UserError, first_line

from .clip import Clip, RowOfTable, as_labels, clip_keys
from .remote.open import listed_size, opened_to_list
from .remote.urls import find_urls, short_names
from .source import NamedSource


@dataclass(frozen=True, kw_only=True)
class Parquet(NamedSource):
    """Ingest Parquet tables of audio as Hugging Face stores them (`audio` with bytes and path)."""

    name = "parquet"

    urls: Positional[tuple[str, ...]]
    """Tables, folders of tables or patterns; paths, or URLs that fsspec opens."""
    key_field: str = ""
    """Column that names a row, such as video_id; default: the name of the audio file."""
    label_field: str = ""
    """Column that holds a label or a list of them, such as human_labels; default: none."""

    def files(self) -> list[Clip]:
        return table_clips(self.urls, self.key_field, self.label_field)


@dataclass(frozen=True)
class _Listed:
    """One row of a table, without its audio."""

    url: str
    row: RowOfTable
    name: str
    file: str
    labels: tuple[str, ...]


def table_clips(urls: tuple[str, ...], key_field: str, label_field: str) -> list[Clip]:
    """List the rows of tables, in the order of the tables and of their rows; see `Parquet`.

    Raises:
        UserError: there is no table, no row, or no struct column `audio` with `bytes`.
    """
    tables = find_urls(urls, "parquet")
    short = short_names(tables)
    listed = [row for url in tables for row in _rows(url, key_field, label_field)]
    if not listed:
        raise UserError(f"the tables of {' '.join(urls)} have no row")
    names = [row.name for row in listed]
    origins = [f"{short[row.url]}/{row.row.group}/{row.row.number}/{row.file}" for row in listed]
    return [
        Clip(
            key=key,
            source=f"parquet {PurePosixPath(row.url).parent.name}",
            path=row.url,
            origin=origin,
            labels=row.labels,
            row=row.row,
            archive_bytes=listed_size(row.url),
        )
        for key, row, origin in zip(clip_keys(origins, names), listed, origins, strict=True)
    ]


def _rows(url: str, key_field: str, label_field: str) -> Iterator[_Listed]:
    """Read the small columns of a table."""
    try:
        with opened_to_list(url) as file:
            table = pq.ParquetFile(file)
            _check_columns(url, table.schema_arrow, key_field, label_field)
            columns = ["audio.path", *filter(None, (key_field, label_field))]
            for group in range(table.num_row_groups):
                rows = table.read_row_group(group, columns=columns).to_pylist()
                for index, row in enumerate(rows):
                    path = (row.get("audio") or {}).get("path") or ""
                    name = str(row[key_field]) if key_field else PurePosixPath(path).stem
                    yield _Listed(
                        url=url,
                        row=RowOfTable(group, index),
                        name=f"{name or index}.audio",
                        file=PurePosixPath(path).name or "audio",
                        labels=as_labels(row.get(label_field)),
                    )
    except (pa.ArrowException, OSError) as error:
        reason = first_line(error)
        raise UserError(f"{url} cannot be read as a Parquet table: {reason}") from error


def _check_columns(url: str, schema: pa.Schema, key_field: str, label_field: str) -> None:
    wanted = {"audio", *filter(None, (key_field, label_field))}
    if missing := sorted(wanted - set(schema.names)):
        raise UserError(
            f"{url} lacks the column {', '.join(missing)}; it has {', '.join(schema.names)}: "
            "see --key-field and --label-field"
        )
    kind = schema.field("audio").type
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        raise UserError(f"{url}: the column audio is {kind}, wanted a struct with bytes and path")

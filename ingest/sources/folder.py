"""A source of clips: any tree of audio files, one clip a file."""

import csv
import logging
from dataclasses import dataclass
from pathlib import Path

from audio_barlow_twins.shards.base.cli import Positional
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.decode.files import ENDINGS, find_audio, shown

from .clip import Clip, clip_keys
from .source import NamedSource

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Folder(NamedSource):
    """Ingest a folder of audio files, one clip a file."""

    name = "folder"

    root: Positional[Path]
    """The folder; its subfolders are searched too."""
    labels: Path | None = None
    """CSV with the columns `path` (relative to the folder) and `labels` (separated by `;`)."""

    def files(self) -> list[Clip]:
        return folder_clips(self.root, self.labels)


def folder_clips(root: Path, labels: Path | None = None) -> list[Clip]:
    """List the audio below `root` in the order of relative paths; see `Folder` for `labels`.

    Raises:
        UserError: no folder, no audio in it, or a label file that does not fit it.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; name the one that holds your audio files")
    found = find_audio(root)
    found.log_left_out(root)
    if not found.audio:
        raise UserError(f"no audio file below {root}; known endings: {' '.join(sorted(ENDINGS))}")
    origins = [shown(path.relative_to(root)) for path in found.audio]
    known = read_labels(labels, origins) if labels else {}
    return [
        Clip(
            key=key,
            source=f"folder {root.resolve().name}",
            path=str(path.absolute()),
            origin=origin,
            labels=known.get(origin, ()),
        )
        for key, origin, path in zip(clip_keys(origins), origins, found.audio, strict=True)
    ]


def read_labels(path: Path, origins: list[str]) -> dict[str, tuple[str, ...]]:
    """Read a label CSV; raise UserError if it is damaged or names other files than `origins`."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := {"path", "labels"} - set(reader.fieldnames or ()):
                raise UserError(
                    f"{path} lacks the column {' and '.join(sorted(missing))}; its first line must "
                    "name the columns path and labels, several labels separated by ;"
                )
            known: dict[str, tuple[str, ...]] = {}
            for row in reader:
                if None in row or None in row.values() or row["path"] in known:
                    raise UserError(
                        f"{path}, line {reader.line_num}: a row has as many cells as the first "
                        "line (put quotes around a comma in a name), and no path twice"
                    )
                known[row["path"]] = tuple(filter(None, row["labels"].split(";")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a CSV of labels: {error}") from error
    if absent := sorted(known.keys() - set(origins)):
        raise UserError(
            f"{path} names {len(absent)} files that are not in the folder, the first is "
            f"{absent[0]}; paths are relative to the folder"
        )
    return known

"""A source of clips: any tree of audio files, one clip a file."""

import csv
import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from audio_barlow_twins.shards.base.cli import Positional
from audio_barlow_twins.shards.base.errors import UserError

from .clip import Clip, clip_keys
from .source import NamedSource

log = logging.getLogger(__name__)

_ENDINGS = """
.3gp .aac .ac3 .aif .aiff .amr .ape .au .avi .caf .flac .flv .m4a .m4b .mka .mkv .mov .mp2 .mp3
.mp4 .mpga .oga .ogg .opus .ra .spx .tta .w64 .wav .webm .wma .wv
"""
ENDINGS = frozenset(_ENDINGS.split())
"""File endings of audio; other files in the tree are ignored and counted."""


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
    found, other = [], Counter[str]()
    for path in _files(root):
        if (ending := path.suffix.lower()) in ENDINGS:
            found.append(path)
        else:
            other[ending or "no ending"] += 1
    if other:
        kinds = ", ".join(f"{n} {ending}" for ending, n in other.most_common(5))
        log.info("%d files below %s are not audio by their ending (%s)", other.total(), root, kinds)
    if not found:
        raise UserError(f"no audio file below {root}; known endings: {' '.join(sorted(ENDINGS))}")
    by_origin = sorted((_origin(path, root), str(path.absolute())) for path in found)
    origins = [origin for origin, _ in by_origin]
    known = read_labels(labels, origins) if labels else {}
    return [
        Clip(
            key=key,
            source=f"folder {root.resolve().name}",
            path=path,
            origin=origin,
            labels=known.get(origin, ()),
        )
        for key, (origin, path) in zip(clip_keys(origins), by_origin, strict=True)
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


def _files(root: Path) -> Iterator[Path]:
    def stop(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be searched: {error.strerror}") from error

    for folder, folders, names in os.walk(root, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if Path(folder, name).is_symlink():
                log.warning("%s is a link to a folder and is not followed", Path(folder, name))
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _origin(path: Path, root: Path) -> str:
    """Return the relative path as valid UTF-8, whatever bytes the file system holds."""
    return os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")

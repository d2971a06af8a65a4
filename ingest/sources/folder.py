"""A source of clips: any tree of audio files, one clip a file."""

import logging
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from audio_barlow_twins.shards.base.cli import Positional
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.decode.files import ENDINGS, find_audio, shown

from .clip import Clip, clip_keys, told_apart
from .labels import Labelled, read_labels, words
from .source import NamedSource

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Folder(NamedSource):
    """Ingest a folder of audio files, one clip a file."""

    name = "folder"

    root: Positional[Path]
    """The folder; its subfolders are searched too."""
    labels: Literal["folders"] | Path | None = None
    """CSV with the columns `path` (relative to the folder) and `labels` (separated by `;`), perhaps
    `start_s` and `end_s` of when they hold, in a row for each event. Or the word folders: the
    folders between ROOT and a file are its labels (a CSV of that name is ./folders)."""

    def files(self) -> list[Clip]:
        return folder_clips(self.root, self.labels)


def folder_clips(root: Path, labels: Literal["folders"] | Path | None = None) -> list[Clip]:
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
    origins = told_apart(shown(path.relative_to(root)) for path in found.audio)
    if labels == "folders":
        known = {each: Labelled(words(PurePosixPath(each).parts[:-1])) for each in origins}
    else:
        known = read_labels(labels, origins) if labels else {}
    return [
        Clip(
            key=key,
            source=f"folder {shown(root.resolve().name)}",
            path=str(path.absolute()),
            origin=origin,
            **known.get(origin, Labelled())._asdict(),
        )
        for key, origin, path in zip(clip_keys(origins), origins, found.audio, strict=True)
    ]

"""Which files are sound, by their names, and how a name is shown."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..base.errors import UserError

log = logging.getLogger(__name__)

_ENDINGS = """
.3gp .aac .ac3 .aif .aiff .amr .ape .au .avi .caf .flac .flv .g722 .gsm .m4a .m4b .mka .mkv .mov
.mp2 .mp3 .mp4 .mpga .oga .ogg .opus .ra .spx .tta .w64 .wav .webm .wma .wv
"""
ENDINGS = frozenset(_ENDINGS.split())
"""File endings of sound, in lower case; files with others are left out and counted."""
HIDDEN = "hidden"


def shown(path: str | Path) -> str:
    """Return a path as valid UTF-8, whatever bytes the file system holds."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_hidden(name: str) -> bool:
    """Tell a file that systems hide, such as `._x.mp3`, which macOS puts beside `x.mp3`."""
    return name.startswith(".")


@dataclass
class Found:
    """What was found below a folder."""

    audio: list[Path] = field(default_factory=list)
    """Sound by its ending, sorted by the path that is shown; perhaps no regular file."""
    other: Counter[str] = field(default_factory=Counter)
    """Files that are left out, by their ending, `hidden` or `no ending`."""
    links: list[Path] = field(default_factory=list)
    """Links to folders, which are not followed."""

    def log_left_out(self, root: Path) -> None:
        """Log what is left out below `root`, if anything is: the most frequent endings first."""
        for link in self.links:
            log.warning("%s is a link to a folder and is not followed", shown(link))
        if self.other:
            kinds = self.left_out()
            log.info("%d files below %s are left out (%s)", self.other.total(), shown(root), kinds)

    def left_out(self) -> str:
        """Return how many files of which ending are left out, the most frequent first."""
        kinds = ", ".join(f"{n} {ending}" for ending, n in self.other.most_common(5))
        more = len(self.other) - 5
        return kinds + (f" and {more} more endings" if more > 0 else "")


def find_audio(root: Path) -> Found:
    """List the sound files below a folder; hidden files and folders are left out.

    Raises:
        UserError: a folder cannot be searched.
    """
    found = Found()
    for path in _walk(root, found):
        if is_hidden(path.name):
            found.other[HIDDEN] += 1
        elif (ending := path.suffix.lower()) in ENDINGS:
            found.audio.append(path)
        else:
            found.other[ending or "no ending"] += 1
    found.audio.sort(key=lambda path: (shown(path), str(path)))
    return found


def _walk(root: Path, found: Found) -> Iterator[Path]:
    def stop(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be searched: {error.strerror}") from error

    for folder, folders, names in os.walk(root, onerror=stop):
        folders[:] = [name for name in folders if not is_hidden(name)]
        found.links += [path for name in folders if (path := Path(folder, name)).is_symlink()]
        yield from (Path(folder, name) for name in names)

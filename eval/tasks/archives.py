"""Where HEAR's task folders come from.

hearbenchmark.com/hear-tasks says: at 48000 Hz from Zenodo, and at other rates from storage whose
downloads the requester pays. Zenodo's record 6332517 is release 2021.3; an archive is named after
its task folder, which it holds below `tasks/`, in some releases below one folder more.
"""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from .suite import PaperTask

RECORD = "https://zenodo.org/records/6332517"
ARCHIVE_RATE = 48000
PAID = "s3://hear2021-archive/tasks/ and gs://hear2021-archive/tasks/"
PAID_RATES = (16000, 22050, 32000, 44100)


def how_to_get(missing: Sequence[PaperTask], tasks_dir: Path) -> list[str]:
    """Say how to get tasks, line by line; the command wants curl and GNU tar."""
    if not missing:
        return []
    archive = f"{RECORD}/files/hear2021-$task-{ARCHIVE_RATE}.tar.gz"
    unpack = f"tar xz -C {quote(str(tasks_dir))} --wildcards '*tasks/*'"
    rates = ", ".join(map(str, PAID_RATES))
    return [
        f"To get what is missing, at {ARCHIVE_RATE} Hz (resampled once, when it is first needed):",
        f"  for task in {' '.join(task.folder for task in missing)}; do",
        f"    curl -fL {archive} | {unpack} --transform 's,^.*tasks/,,'",
        "  done",
        f"All archives and their licences: {RECORD}",
        f"At {rates} Hz, the requester pays: {PAID}",
    ]

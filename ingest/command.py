"""The commands of `abt ingest`: one for each source, and some that look at finished sets."""

from functools import partial
from typing import Any

from audio_barlow_twins.shards.base.cli import Command, Commands, command

SOURCES = {
    "audioset": "AudioSet from YouTube by its official lists.",
    "videos": "Any list of videos, such as VGGSound's, MusicCaps' or AudioCaps'.",
    "folder": "A folder of audio files, one clip a file.",
    "webdataset": "WebDataset tars of audio files.",
    "parquet": "Parquet tables of audio, as Hugging Face stores them.",
    "fsd50k": "A split of FSD50K.",
    "debian": "The audio inside Debian packages: 20 hours of free sound, or your list of packages.",
    "demo": "The demo corpus: six minutes of free sounds.",
}


def _load(name: str, again: bool) -> Any:
    from .run import Ingest, Retry, command_of

    return command_of(Retry if again else Ingest, name)


RETRIES: Commands = {
    name: Command(f"Failed clips of: {text}", partial(_load, name, again=True))
    for name, text in SOURCES.items()
}
COMMANDS: Commands = {
    **{name: Command(text, partial(_load, name, again=False)) for name, text in SOURCES.items()},
    "retry": Command("Try failed clips again: retry SOURCE … --out OUT.", lambda: RETRIES),
    "status": command("What became of the planned clips, what is due.", "ingest.look.Status"),
    "diff": command("Which clips two shard sets do not share, and why.", "ingest.look.Diff"),
}

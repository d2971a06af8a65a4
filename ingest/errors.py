"""Why a clip is not there. Each class is data: it becomes a row of the sidecar, never a crash.

IngestError
├── BadAudio      nothing to decode, undecodable, empty, too short, too long, silent
└── Unreadable    the file went away, or may not be read
"""

from typing import ClassVar


class IngestError(Exception):
    """An expected failure of one clip; `slug` is its class in the sidecar."""

    slug: ClassVar[str]


class BadAudio(IngestError):
    """The file is there, but there is no sound in it that could be stored."""

    slug = "bad_audio"


class Unreadable(IngestError):
    """The file cannot be opened; that says nothing about the sound in it."""

    slug = "unreadable"

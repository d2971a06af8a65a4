"""What can be wrong with a sound file."""

from datetime import timedelta

from ..base.errors import ClipError


class BadAudio(ClipError):
    """The file is there, but there is no sound in it that could be stored."""

    slug = "bad_audio"


class Unreadable(ClipError):
    """The file cannot be opened; that says nothing about the sound in it."""

    slug = "unreadable"
    retry_after = timedelta(0)

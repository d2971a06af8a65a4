"""Failures of one sound file."""

from datetime import timedelta

from ..base.errors import ClipError


class BadAudio(ClipError):
    """The file exists, but holds no sound that can be stored."""

    slug = "bad_audio"


class ClockError(BadAudio):
    """Time stamps go back, or stand still, so long that no place in the recording is known."""


class NotBegun(BadAudio):
    """ffmpeg failed before the first sample."""


class Unreadable(ClipError):
    """The file cannot be opened; that says nothing about the sound in it."""

    slug = "unreadable"
    retry_after = timedelta(0)


class DecoderStopped(ClipError):
    """ffmpeg was killed or took too long; that says nothing about the sound in the file."""

    slug = "decoder"
    retry_after = timedelta(hours=1)

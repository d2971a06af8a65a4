"""Errors that all rooms raise: those the user can fix, and those of one clip."""

from datetime import timedelta
from typing import ClassVar


class UserError(ValueError):
    """Report something the user can fix: one line, no traceback, exit code 2."""


class ClipError(Exception):
    """An expected failure of one clip; `slug` is its class in the sidecar."""

    slug: ClassVar[str]
    retry_after: ClassVar[timedelta | None] = None
    """Time after which a retry is worthwhile; None: the failure is permanent."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    return (str(error).splitlines() or [""])[0].strip() or type(error).__name__

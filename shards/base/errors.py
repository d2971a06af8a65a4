"""What every room raises: what the user can put right, and what is wrong with one clip."""

from datetime import timedelta
from typing import ClassVar


class UserError(ValueError):
    """Report something the user can put right: one line, no traceback, exit code 2."""


class ClipError(Exception):
    """An expected failure of one clip; `slug` is its class in the sidecar."""

    slug: ClassVar[str]
    retry_after: ClassVar[timedelta | None] = None
    """When it is worth while to try again; None: it does not pass by itself."""


def first_line(error: BaseException) -> str:
    """Say what an error says in its first line, or else what kind it is."""
    return (str(error).splitlines() or [""])[0].strip() or type(error).__name__

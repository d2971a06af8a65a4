"""Where a shard set is: a local folder, or a URL that fsspec opens."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from .ahead import ahead
from .errors import UserError, first_line

THREADS = 16
"""Remote files read at the same time."""
CONNECT_S, ANSWER_S = 10, 60
"""Longest wait for an S3 server to accept a connection, and to answer a request."""

Result = TypeVar("Result")


def place(where: str | Path) -> Path:
    """Return a `pathlib.Path`, or for an fsspec URL such as `s3://bucket/set` a `upath.UPath`.

    A UPath has Path's methods, and is typed as one.

    Raises:
        UserError: the scheme is unknown, or the package that opens it is not installed.
    """
    if not isinstance(where, str):
        return where
    scheme, found, rest = where.partition("://")
    if not found:
        return Path(where)
    return Path(rest) if scheme == "file" else _remote_place(where, scheme)


def is_remote(where: Path) -> bool:
    """Tell a URL from a local path, which never holds two slashes in a row."""
    return "://" in str(where)


def _remote_place(url: str, scheme: str) -> Path:
    try:  # an extra: local sets are read without it
        from fsspec import get_filesystem_class
        from upath import UPath

        get_filesystem_class(scheme)
    except ImportError as error:
        raise UserError(
            f"{url} needs a package that is not installed ({error}); for S3 run "
            "`pip install 'audio-barlow-twins[s3]'`"
        ) from error
    except ValueError as error:
        raise UserError(
            f"{url} has a scheme that fsspec does not know ({error}); "
            "name a folder, or for S3 a URL such as s3://bucket/set (extra `s3`)"
        ) from error
    # Other processes write there, so a cached listing would go stale.
    settings: dict[str, Any] = {"use_listings_cache": False}
    if scheme == "s3":  # s3fs retries a missing answer, botocore a server's error too
        settings["config_kwargs"] = {
            "connect_timeout": CONNECT_S,
            "read_timeout": ANSWER_S,
            "retries": {"total_max_attempts": 3, "mode": "standard"},
        }
    return cast(Path, UPath(url, **settings))


@contextmanager
def reaching(where: Path) -> Iterator[None]:
    """Turn a failure of a remote place, after its client's own retries, into a UserError.

    Raises:
        UserError: no answer, no such bucket, or no permission.
    """
    if not is_remote(where):
        yield
        return
    try:
        yield
    except client_errors() as error:
        reason = first_line(error)
        raise UserError(
            f"{where} cannot be used ({reason}); check the bucket, the credentials and "
            "AWS_ENDPOINT_URL on this machine, then run the same command again"
        ) from error


def client_errors() -> tuple[type[Exception], ...]:
    """Return what the clients of remote places raise, those of S3 after their own retries."""
    kinds: tuple[type[Exception], ...] = (OSError,)
    with suppress(ImportError):
        from botocore.exceptions import BotoCoreError

        kinds += (BotoCoreError,)
    with suppress(ImportError):  # fsspec's client of HTTP, which archives in archives go through
        from aiohttp import ClientError

        kinds += (ClientError,)
    return kinds


def read_each(read: Callable[[Path], Result], paths: Sequence[Path]) -> Iterator[Result]:
    """Apply `read` to every path and yield the results, in order.

    Remote files are read in several threads, a few ahead; local ones in this thread, which is
    faster for small files.
    """
    if not paths or not is_remote(paths[0]):
        yield from map(read, paths)
        return
    for _, read_ahead in ahead(read, paths, THREADS, 2 * THREADS):
        yield read_ahead.result()

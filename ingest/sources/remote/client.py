"""Ask HTTP servers, again where that can help, and say what became of it in two classes.

NetworkTrouble is what may pass by itself; Unreadable is what the server has decided.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar
from urllib.parse import urlsplit

import requests
import urllib3

from ...errors import NetworkTrouble, Unreadable, asked_wait_s

log = logging.getLogger(__name__)

TRIES = 6
"""With the pauses between them they outlast half a minute, in which a server can start anew."""
PAUSE_S = 1.0
"""Pause before the second try, s; it doubles each time."""
LONGEST_PAUSE_S = 300.0
"""Longest pause that a server is granted, s; `retry` comes later."""
CONNECT_S, SILENCE_S = 10.0, 60.0
"""Longest wait for a connection, and for the next bytes of an answer, s."""
SLOWEST = 10_000
"""Slowest answer that is waited for, bytes a second, once SILENCE_S are over."""
PASSING = frozenset({408, 425, 429})
"""Statuses below 500 that ask to come again; those from 500 on are the server's own trouble."""

Result = TypeVar("Result")
_not_before: dict[str, float] = {}
"""When each host may be asked again (monotonic), because it has told some thread so."""


def is_http(url: str) -> bool:
    """Tell a URL that is read through this module."""
    return url.startswith(("http://", "https://"))


def trying(ask: Callable[[], Result], url: str) -> Result:
    """Return what `ask` returns; it is called again while it raises NetworkTrouble.

    Raises:
        NetworkTrouble: the last try failed, too.
        Unreadable: the server says that there is nothing to be had.
    """
    host, tries = urlsplit(url).netloc, 0
    while True:
        time.sleep(max(_not_before.get(host, 0.0) - time.monotonic(), 0.0))
        try:
            return ask()
        except NetworkTrouble as error:
            tries += 1
            if tries == TRIES:
                raise NetworkTrouble(f"{error} (tried {TRIES} times)") from error
            asked_s = min(error.wait_s, LONGEST_PAUSE_S)
            if asked_s > PAUSE_S * 2**TRIES:
                log.warning("%s asks to wait %.0f s (%s)", host, asked_s, error)
            _not_before[host] = max(_not_before.get(host, 0.0), time.monotonic() + asked_s)
            time.sleep(PAUSE_S * 2 ** (tries - 1) * random.uniform(0.5, 1.5))


@contextmanager
def answered(
    url: str, good: tuple[int, ...] = (200,), asked: str = ""
) -> Iterator[requests.Response]:
    """Yield the answer to one request, with its body still unread.

    Args:
        good: statuses of a useful answer.
        asked: range of bytes to ask for, such as `bytes=0-9`.

    Raises:
        NetworkTrouble: there is no answer, or one that asks to come again.
        Unreadable: any other answer.
    """
    with _sent(url, {"Range": asked} if asked else {}) as response:
        status = response.status_code
        said = f"the server answered {status} {response.reason}"
        if status in PASSING or status >= 500:
            trouble = NetworkTrouble(said)
            trouble.wait_s = asked_wait_s(response.headers.get("Retry-After"))
            raise trouble
        if status not in good:
            raise Unreadable(said)
        yield response


def blocks(response: requests.Response, decode: bool = False) -> Iterator[bytes]:
    """Yield the body of an answer as it arrives; NetworkTrouble if it breaks off.

    What the server has compressed for the way is left so, unless it should `decode`.
    """
    try:
        while block := response.raw.read1(1 << 16, decode_content=decode):
            yield block
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise NetworkTrouble(_line(error)) from error


def in_time(arriving: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Pass blocks on while they come fast enough for `size` bytes; else raise NetworkTrouble."""
    end = time.monotonic() + SILENCE_S + size / SLOWEST
    for block in arriving:
        yield block
        if time.monotonic() > end:
            raise NetworkTrouble(f"the server sends less than {SLOWEST} bytes a second")


def _sent(url: str, headers: dict[str, str]) -> requests.Response:
    try:
        return _session().get(url, headers=headers, stream=True, timeout=(CONNECT_S, SILENCE_S))
    except (requests.TooManyRedirects, ValueError) as error:  # ValueError: an address that is none
        raise Unreadable(f"the server leads nowhere: {_line(error)}") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise NetworkTrouble(_line(error)) from error


def _line(error: BaseException) -> str:
    """Name an error by its innermost cause: the libraries wrap each other's."""
    inner = [*error.args[-1:], getattr(error, "reason", None)]
    for cause in inner:
        if isinstance(cause, BaseException):
            return _line(cause)
    return f"{type(error).__name__} {' '.join(str(error).split())[:200]}".strip()


@lru_cache(maxsize=1)
def _session() -> requests.Session:
    session = requests.Session()
    # Ranges count the bytes that lie on the server, not those of a compressed answer.
    session.headers["Accept-Encoding"] = "identity"
    return session

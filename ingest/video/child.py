"""yt-dlp in a process of its own: a line of JSON in for each request, one out for each answer.

`fetcher.py` starts it in its own session and passes its process id. It ends, with everything that
it started, when its input ends or its parent has died. A failure is an answer too: the chain of
exceptions as data, which `failures.py` reads on the other side.
"""

import io
import json
import os
import re
import signal
import sys
import threading
import time
import traceback
import uuid
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import redirect_stderr
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import yt_dlp
from yt_dlp.networking.exceptions import HTTPError
from yt_dlp.utils import bug_reports_message
from yt_dlp.version import __version__

from ..errors import asked_wait_s
from .failures import Failure, Link, unfit

RUNTIMES = ("deno", "node", "bun", "quickjs")
PARENT_CHECK_S = 1.0
Json = dict[str, Any]


class Oversize(Exception):
    """The file is larger than the limit."""


class EmptyFile(Exception):
    """The site sent nothing, and reported success."""


class CutShort(Exception):
    """The file is smaller than the site had announced."""


class NoFile(Exception):
    """yt-dlp ended without an error and without a file."""


class _Site(yt_dlp.YoutubeDL):
    """A yt-dlp that notes how long a site asks to wait: its own errors may not say so."""

    def urlopen(self, request: Any) -> Any:
        """Send a request."""
        try:
            return super().urlopen(request)
        except HTTPError as error:
            asked_s = asked_wait_s(error.response.headers.get("Retry-After"))
            log = self.params["logger"]
            log.wait_s = max(log.wait_s, asked_s)
            raise


class _Log:
    """yt-dlp's messages during one request."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=50)
        self.warnings: deque[str] = deque(maxlen=20)
        self.wait_s = 0.0

    def clear(self) -> None:
        """Begin another request."""
        self.lines.clear()
        self.warnings.clear()
        self.wait_s = 0.0

    def debug(self, message: str) -> None:
        self.lines.append(message)

    def warning(self, message: str) -> None:
        self.warnings.append(_plain(message))

    def error(self, message: str) -> None:
        """Drop it: it is also raised."""


class _Task:
    """One request, and what is known when it fails."""

    def __init__(self, request: Json, sites: dict[tuple[str, str], yt_dlp.YoutubeDL]) -> None:
        self.request = request
        self.sites = sites
        self.log = _Log()
        self.step = "setup"
        self.facts: Json = {}

    def run(self) -> Json:
        """Return where the sound is, or why it was not downloaded."""
        site = self._site()
        self.step = "page"
        found = site.extract_info(self.request["page"], download=False, process=False)
        if not isinstance(found, dict):
            raise NoFile("yt-dlp found no video behind the page")
        self.facts = _facts(found, bool(self.request["cookies"]))
        if unfit(Failure(step=self.step, **self.facts)):
            return self.failure(None)
        chosen = site.process_ie_result(found, download=False)
        answer = {"path": "", "url": "", "headers": {}, "format": _describe(chosen)}
        size = _size(chosen)
        if self._wants_section(chosen, size):
            return answer | {"url": chosen["url"], "headers": _headers(site, chosen)}
        _check_size(self.request["max_bytes"], {"total_bytes": size})
        self.step = "media"
        return answer | {"path": self._download(site, chosen)}

    def failure(self, error: BaseException | None) -> Json:
        chain = [asdict(_link(each)) for each in _chain(error)] if error else []
        about = {"step": self.step, "chain": chain, "warnings": list(self.log.warnings)}
        return {"failure": self.facts | about | {"wait_s": self.log.wait_s}}

    def _site(self) -> yt_dlp.YoutubeDL:
        """Return the yt-dlp of this identity, which keeps its cookies and its scripts."""
        identity = (self.request["proxy"], self.request["cookies"])
        if identity not in self.sites:
            self.sites[identity] = _open_site(self.request, self.log)
        site = self.sites[identity]
        self.log = site.params["logger"]
        self.log.clear()
        return site

    def _wants_section(self, chosen: Json, size: int) -> bool:
        large = size > self.request["section_above"] and not self.request["whole"]
        plain = chosen.get("protocol") in {"http", "https"}
        return large and plain and not chosen.get("requested_formats")

    def _download(self, site: yt_dlp.YoutubeDL, chosen: Json) -> str:
        """Download the whole file; raise for what yt-dlp ignores."""
        name = f"{uuid.uuid4().hex}.%(ext)s"  # never resume another video's partial file
        site.params["outtmpl"]["default"] = name
        site.params["paths"] = {"home": self.request["folder"]}
        promised = chosen.get("filesize") or 0
        site.process_info(chosen)
        path = Path(chosen.get("filepath") or "")
        if not path.is_file():
            if any("max-filesize" in line for line in self.log.lines):
                raise Oversize(f"the file has more than {self.request['max_bytes']} bytes")
            raise NoFile("yt-dlp ended without an error and without a file")
        size = path.stat().st_size
        if not size:
            raise EmptyFile("the file is empty")
        if size < promised:
            raise CutShort(f"the file has {size} of {promised} bytes")
        return str(path)


def _check_size(max_bytes: int, progress: Json) -> None:
    size = max(progress.get("downloaded_bytes") or 0, progress.get("total_bytes") or 0)
    if size > max_bytes:
        raise Oversize(f"the file has {size} bytes, more than {max_bytes}")


def _open_site(request: Json, log: _Log) -> yt_dlp.YoutubeDL:
    """Return a yt-dlp for one identity: audio only, with hardly any retries."""
    cookies = io.StringIO(Path(request["cookies"]).read_text()) if request["cookies"] else None
    site = _Site(
        {
            "logger": log,
            "quiet": True,
            "noprogress": True,
            "color": "never",
            "format": request["format"],
            "noplaylist": True,
            "max_filesize": request["max_bytes"],
            "progress_hooks": [partial(_check_size, request["max_bytes"])],
            "socket_timeout": request["socket_timeout_s"],
            "retries": 1,
            "fragment_retries": 1,
            "extractor_retries": 1,
            "file_access_retries": 1,
            "skip_unavailable_fragments": False,
            "geo_bypass": False,
            "fixup": "never",
            "updatetime": False,
            "proxy": request["proxy"] or None,
            "cookiefile": cookies,  # a private copy: yt-dlp writes new cookies back
            "extractor_args": _extractor_args(request["extractor_args"]),
            "js_runtimes": {name: {} for name in RUNTIMES},
        }
    )
    if cookies and not len(site.cookiejar):
        raise ValueError(f"{request['cookies']} holds no cookie in Netscape's format")
    return site


def _extractor_args(arguments: list[str]) -> Json:
    """Parse extractor arguments as yt-dlp's own command line does."""
    complaint = io.StringIO()
    flags = [f"--extractor-args={argument}" for argument in arguments]
    try:
        with redirect_stderr(complaint):
            parsed = yt_dlp.parse_options(["--ignore-config", *flags])
    except SystemExit as error:
        raise ValueError(complaint.getvalue().strip().splitlines()[-1]) from error
    return parsed.ydl_opts["extractor_args"]


def _facts(found: Json, signed_in: bool) -> Json:
    """Return what decides whether a page is worth a download."""
    formats = found["formats"] = list(found.get("formats") or ())
    if not formats:
        del found["formats"]
    sound = [each for each in formats if each.get("acodec") != "none"]
    return {
        "live_status": str(found.get("live_status") or ("is_live" * bool(found.get("is_live")))),
        "availability": str(found.get("availability") or ""),
        "has_drm": bool(formats) and all(each.get("has_drm") is True for each in formats),
        "elsewhere": found.get("_type", "video") != "video",
        "audio_formats": len(sound),
        "video_formats": sum(each.get("vcodec") != "none" for each in formats),
        "signed_in": signed_in,
    }


def _size(chosen: Json) -> int:
    """Return the known or estimated size of the choice, bytes; 0 if unknown."""
    guess = (chosen.get("tbr") or 0) * 125 * (chosen.get("duration") or 0)  # 125 B/s a kbit/s
    return int(chosen.get("filesize") or chosen.get("filesize_approx") or guess)


def _describe(chosen: Json) -> str:
    rate = chosen.get("abr") or chosen.get("tbr")
    parts = [chosen.get("format_id"), chosen.get("ext"), f"{rate:.0f} kbit/s" if rate else ""]
    return " ".join(str(part) for part in parts if part)


def _headers(site: yt_dlp.YoutubeDL, chosen: Json) -> dict[str, str]:
    cookie = site.cookiejar.get_cookie_header(chosen["url"])
    headers = {str(name): str(value) for name, value in (chosen.get("http_headers") or {}).items()}
    return headers | ({"Cookie": cookie} if cookie else {})


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all that led to it, wherever yt-dlp keeps them."""
    todo, seen = [error], set[int]()
    while todo:
        each = todo.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        kept = (getattr(each, "exc_info", None) or (None, None))[1]
        origins = (each.__cause__, each.__context__, kept, getattr(each, "cause", None))
        todo += [origin for origin in origins if isinstance(origin, BaseException)]


def _link(error: BaseException) -> Link:
    kinds = [kind.__name__ for kind in type(error).__mro__[:-2]]
    status, number = getattr(error, "status", 0), getattr(error, "errno", 0)
    return Link(
        kinds=tuple(kinds) or (type(error).__name__,),
        message=_plain(getattr(error, "orig_msg", None) or str(error)),
        status=status if isinstance(status, int) else 0,
        errno=number if isinstance(number, int) else 0,
        ours=_raised_in(error) == __file__,
    )


def _raised_in(error: BaseException) -> str:
    """Return the file of the line that raised an error, '' if it was never raised."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return frames[-1][0].f_code.co_filename if frames else ""


def _plain(message: str) -> str:
    """Remove colours and the request for bug reports from a message."""
    message = re.sub(r"\x1b\[[0-9;]*m", "", message).replace(bug_reports_message(), "")
    return " ".join(message.split())


def _answer(answers: TextIO, task: _Task, done: Future[Json]) -> None:
    error = done.exception()
    answers.write(json.dumps(task.failure(error) if error else done.result()) + "\n")
    answers.flush()


def _end() -> None:
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(0)


def _end_with(parent: int) -> None:
    """End when the parent has died: another process may hold the input open."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    _end()


def main() -> None:
    """Serve requests, one at a time, until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # prints must not mix with the answers
    threading.Thread(target=_end_with, args=(int(sys.argv[1]),), daemon=True).start()
    answers.write(json.dumps({"version": f"yt-dlp {__version__}"}) + "\n")
    answers.flush()
    sites: dict[tuple[str, str], yt_dlp.YoutubeDL] = {}
    with ThreadPoolExecutor(max_workers=1) as worker:
        for line in sys.stdin:
            task = _Task(json.loads(line), sites)
            worker.submit(task.run).add_done_callback(partial(_answer, answers, task))
        _end()


if __name__ == "__main__":
    main()

"""Fetch the sound of a video's page in a process of its own, which can be killed."""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from sysconfig import get_path
from typing import IO, Any

import audio_barlow_twins

from ..errors import EnvironmentFault, NetworkTrouble
from .failures import INSTALL, as_failure, classify
from .options import Videos

RUNTIMES = ("deno", "node", "bun", "qjs")
START_S = 120.0
"""Longest time until the process is ready; a busy machine loads yt-dlp slowly."""
STDERR_TAIL = 1000


@dataclass(frozen=True, kw_only=True)
class Identity:
    """How a request appears to the site."""

    name: str
    """Name in the sidecar."""
    proxy: str = ""
    """URL of a proxy; "" for a direct connection."""
    cookies: str = ""
    """Path of a cookie file in Netscape's format; it is read, never written."""


@dataclass(frozen=True, kw_only=True)
class Media:
    """Where the sound of a video is."""

    path: str
    """Local file; "" if a section of `url` is to be read."""
    url: str = ""
    """Media to read a section from, with `headers` and the identity's proxy."""
    headers: dict[str, str] = field(default_factory=dict)
    version: str
    format: str
    """Chosen format, such as "140 m4a 128 kbit/s"."""


def downloader_version() -> str:
    """Return the downloader's name and version, for the sidecar of a failed clip."""
    return f"yt-dlp {version('yt-dlp')}"


def require_runtime() -> None:
    """Raise EnvironmentFault unless yt-dlp and a JavaScript runtime for it are installed."""
    for package in ("yt_dlp", "yt_dlp_ejs"):
        if find_spec(package) is None:
            raise EnvironmentFault(f"the package {package} is not installed: {INSTALL}")
    places = os.pathsep.join([get_path("scripts"), os.environ.get("PATH", os.defpath)])
    if not any(which(name, path=places) for name in RUNTIMES):
        wanted = ", ".join(RUNTIMES)
        raise EnvironmentFault(f"YouTube needs a JavaScript runtime ({wanted}): {INSTALL}")


class VideoFetcher:
    """Fetches videos one after the other in one process, which is started when needed."""

    def __init__(self, videos: Videos) -> None:
        self._videos = videos
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._version = ""

    def __enter__(self) -> "VideoFetcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fetch(self, page: str, identity: Identity, folder: Path, whole: bool = False) -> Media:
        """Fetch the sound of a video, or return where a section of a large one can be read.

        Args:
            folder: for the file and the rest of a failed download; the caller deletes it.
            whole: never answer with a section.

        Raises:
            ClipError: this video cannot be had, or not now.
            IdentityFault: the site refuses this identity.
            EnvironmentFault: this machine or its tools cannot fetch.
            RuntimeError: the process ended by a bug.
        """
        request = {"page": page, "folder": str(folder.absolute()), "whole": whole}
        answer = self._ask(request, identity)
        names = ("path", "url", "headers", "format")
        return Media(version=self._version, **{name: answer[name] for name in names})

    def close(self) -> None:
        """End the process and everything that it started."""
        if process := self._process:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout, self._stderr):
                if pipe:
                    with suppress(BrokenPipeError):
                        pipe.close()
        self._process = None

    def _ask(self, request: dict[str, Any], identity: Identity) -> dict[str, Any]:
        request |= self._videos.request() | {"proxy": identity.proxy, "cookies": identity.cookies}
        process = self._process or self._start()
        answered = False
        try:
            self._send(process, request)
            answer = self._read(process, self._videos.timeout_s)
            answered = True
        finally:
            if not answered:  # its answer could be taken for that to the next request
                self.close()
        if "failure" in answer:
            raise classify(as_failure(answer["failure"]), request["folder"] or "yt-dlp's cache")
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        require_runtime()
        root = str(Path(audio_barlow_twins.__file__).parents[1])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115, it lives as long as the process
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "audio_barlow_twins.ingest.video.child", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,
        )
        ready = False
        try:
            self._version = self._read(process, START_S)["version"]
            ready = True
        finally:
            if not ready:
                self.close()
        return process

    def _send(self, process: subprocess.Popen[bytes], request: dict[str, Any]) -> None:
        assert process.stdin
        assert self._stderr
        self._stderr.seek(0)
        self._stderr.truncate()
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise self._death(process) from None

    def _read(self, process: subprocess.Popen[bytes], limit_s: float) -> dict[str, Any]:
        assert process.stdout
        line = bytearray()
        end = time.monotonic() + limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(end - time.monotonic(), 0)):
                    raise NetworkTrouble(f"took longer than {limit_s:g} s")
                piece = os.read(process.stdout.fileno(), 65536)
                if not piece:
                    raise self._death(process)
                line += piece
        return json.loads(line)

    def _death(self, process: subprocess.Popen[bytes]) -> Exception:
        """Return the error for a process that has ended.

        SIGKILL comes from outside, mostly because memory ran out, perhaps on this video; a retry is
        cheaper than stopping the job. Any other end is a bug.
        """
        code = process.wait()
        if code == -signal.SIGKILL:
            return NetworkTrouble("the downloader was killed from outside, or memory ran out")
        assert self._stderr
        self._stderr.seek(0)
        words = self._stderr.read().decode(errors="replace").strip()[-STDERR_TAIL:]
        return RuntimeError(f"the downloader ended with code {code}: {words or 'no last words'}")

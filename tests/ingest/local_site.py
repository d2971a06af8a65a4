"""A site of videos on loopback that stands in for YouTube: real sound, and every way to fail.

`with LocalSite(folder) as site:` serves it from this process; `python local_site.py FOLDER` from
one of its own, which writes its URL as one line and ends when its input does. What it does can be
changed while it runs, here through `site.change(...)`, from elsewhere by a POST of the same fields
as JSON to URL/control; a GET of URL/control returns what was counted.

yt-dlp reads it through the extractor in `site_plugin`: put PLUGIN on PYTHONPATH.
"""

import base64
import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from audio_barlow_twins.shards.decode.ffmpeg import ffmpeg_path

PLUGIN = str(Path(__file__).with_name("site_plugin"))
Json = dict[str, Any]
LIMITED = (
    "Video unavailable. This content isn\u2019t available, try again later. The session has "
    "been rate-limited by YouTube for up to an hour. It is recommended to use `-t sleep` to add a "
    "delay between video requests to avoid exceeding the rate limit."
)
BOT = "Sign in to confirm you\u2019re not a bot. Use --cookies-from-browser or --cookies"
SAID: dict[str, tuple[str, str]] = {
    "private": ("expected", "Private video. Sign in if you've been granted access to this video"),
    "removed": ("expected", "Video unavailable. This video has been removed by the uploader"),
    "terminated": (
        "expected",
        "Video unavailable. This video is no longer available because the YouTube account "
        "associated with this video has been terminated.",
    ),
    "copyright": (
        "expected",
        "Video unavailable. This video is no longer available due to a copyright claim by A & B",
    ),
    "unavailable": ("expected", "Video unavailable"),
    "age_restricted": (
        "expected",
        "Sign in to confirm your age. This video may be inappropriate for some users. "
        "Use --cookies-from-browser or --cookies for the authentication",
    ),
    "geo": ("geo", "The uploader has not made this video available in your country"),
    "members": (
        "expected",
        "Join this channel to get access to members-only content like this video, and other "
        "exclusive perks.",
    ),
    "premium": ("expected", "This video is only available to Music Premium members"),
    "drm": ("drm", ""),
    "live_soon": ("expected", "This live event will begin in 3 days."),
    "premiere": ("expected", "Premieres in 5 hours"),
    "rate_limited": ("expected", LIMITED),
    "bot_check": ("expected", BOT),
    "reworded": ("expected", "The hamsters are asleep"),
    "unexpected": ("unexpected", "Unable to extract ytcfg"),
    "crash": ("crash", "'NoneType' object is not subscriptable"),
    "missing_key": ("key", "streamingData"),
    "no_player": ("unexpected", "Failed to extract any player response"),
}
"""Kinds of videos that yt-dlp raises an error for, how, and in whose words."""
STATED: dict[str, Json] = {
    "live": {"live_status": "is_live"},
    "post_live": {"live_status": "post_live"},
    "subscriber_only": {"availability": "subscriber_only"},
    "premium_only": {"availability": "premium_only"},
}
"""Kinds of videos whose page says in a field why they cannot be had."""
CONTAINERS: dict[str, list[str]] = {
    "m4a": ["-map", "1:a", "-c:a", "aac", "-b:a", "96k", "-movflags", "+faststart"],
    "webm": ["-map", "1:a", "-c:a", "libopus", "-b:a", "64k"],
    "mp4": ["-c:v", "mpeg4", "-c:a", "aac", "-movflags", "+faststart"],
}
TYPES = {"m4a": "audio/mp4", "webm": "audio/webm", "mp4": "video/mp4"}
PIECE = 4096


@dataclass
class Video:
    """What a page and its media do."""

    kind: str = "good"
    """good; a key of SAID or STATED; no_format, silent (a picture alone), trailer; page_hang,
    media_hang; empty, truncated, cut, html, drip; page_NNN and media_NNN for an HTTP status;
    page_raw and media_raw for what `raw` says."""
    container: str = "m4a"
    ranges: bool = True
    """Answer requests for a range of bytes."""
    claimed: int | None = None
    """Size that the page tells, bytes; None for the true one, 0 for none."""
    length_known: bool = True
    """Send Content-Length; without it, only the end of the connection ends the file."""
    first: int = 0
    """How many requests of the page do as `kind` says; 0 for all, later ones are good."""
    warnings: list[str] = field(default_factory=list)
    message: str = ""
    """Replaces the words of SAID."""
    wait: str = ""
    """Retry-After beside an HTTP status."""
    raw: str = ""
    """Bytes of a whole answer, as Latin-1."""


@dataclass
class Site:
    """What the whole site does; `change` sets any of these fields."""

    videos: dict[str, Video] = field(default_factory=dict)
    """By id; any other id is a good video."""
    delay_s: float = 0.0
    """Wait before a page is answered, s."""
    limit_after: int = 0
    """Pages that an identity may read before it is rate-limited; 0 for no limit."""
    limit_s: float = 2.0
    """How long it then stays so, s."""
    bots: list[str] = field(default_factory=list)
    """Identities that are taken for robots."""
    broken: bool = False
    """No page has a format that can be chosen."""


class LocalSite:
    """The server; `identities`, `pages`, `media` count requests, `seen` keeps the last headers."""

    def __init__(self, folder: Path, seconds: int = 60, port: int = 0) -> None:
        self.files = {name: _sweep(folder, name, seconds) for name in CONTAINERS}
        self.seconds = seconds
        self.rules = Site()
        self.pages, self.media = Counter[str](), Counter[str]()
        self.identities, self.refused = Counter[str](), Counter[str]()
        self.seen = deque[Json](maxlen=1000)
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._in_window, self._limited_until = Counter[str](), dict[str, float]()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.site = self
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.address}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> "LocalSite":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def page(self, video_id: str) -> str:
        """Return the URL of a video's page."""
        return f"{self.url}/watch?v={video_id}"

    def proxy(self, name: str) -> str:
        """Return the URL of a proxy that the site counts as an identity of its own."""
        return f"http://{name}:secret@{self.address}"

    def add(self, video_id: str, **about: Any) -> str:
        """Say how a video behaves; return its page."""
        self.change(videos={video_id: about})
        return self.page(video_id)

    def change(self, **rules: Any) -> None:
        """Set fields of Site; `videos` adds to those that are there."""
        assert set(rules) <= {each.name for each in fields(Site)}, rules
        videos = {name: Video(**about) for name, about in rules.pop("videos", {}).items()}
        with self._lock:
            self.rules.videos.update(videos)
            for name, value in rules.items():
                setattr(self.rules, name, value)

    def counts(self) -> Json:
        """Return what was asked for so far."""
        with self._lock:
            return {
                name: dict(getattr(self, name))
                for name in ("pages", "media", "identities", "refused")
            }

    def behaviour(self, video_id: str) -> tuple[Video, str]:
        """Return a video and what it does at its present request."""
        video = self.rules.videos.get(video_id, Video())
        over = video.first and self.pages[video_id] > video.first
        return video, "good" if over else video.kind

    def visit(self, video_id: str, identity: str) -> str:
        """Count a request of a page; return "" or the kind of the refusal."""
        with self._lock:
            self.pages[video_id] += 1
            self.identities[identity] += 1
            refusal = self._refusal(identity)
            self.refused[identity] += bool(refusal)
            return refusal

    def _refusal(self, identity: str) -> str:
        if identity in self.rules.bots:
            return "bot_check"
        now = time.monotonic()
        if now < self._limited_until.get(identity, 0):
            return "rate_limited"
        self._in_window[identity] += 1
        if 0 < self.rules.limit_after < self._in_window[identity]:
            self._limited_until[identity] = now + self.rules.limit_s
            self._in_window[identity] = 0
            return "rate_limited"
        return ""

    def describe(self, video_id: str, refusal: str) -> Json:
        """Write the page of a video."""
        video, kind = self.behaviour(video_id)
        kind = refusal or kind
        if kind in SAID:
            raises, message = SAID[kind]
            message = video.message or message
            return {"raises": raises, "message": message, "warnings": video.warnings}
        if kind == "trailer":
            return {"instead": "the-trailer"}
        size = self.files[video.container].stat().st_size
        claimed = size if video.claimed is None else video.claimed
        claimed = 0 if kind == "html" else claimed
        ending, picture = video.container, video.container == "mp4" or kind == "silent"
        sound = {
            "format_id": {"m4a": "140", "webm": "251", "mp4": "18"}[ending],
            "url": f"/media/{video_id}.{ending}",
            "ext": ending,
            "vcodec": "mp4v" if picture else "none",
            "acodec": "none" if kind == "silent" else "opus" if ending == "webm" else "mp4a.40.2",
            "filesize": claimed or None,
        }
        board = {"format_id": "sb0", "url": "/sb0", "ext": "mhtml", "protocol": "mhtml"}
        board |= {"vcodec": "none", "acodec": "none"}
        formats = [board] if self.rules.broken or kind == "no_format" else [board, sound]
        info = {"duration": self.seconds} | STATED.get(kind, {})
        return {"formats": formats, "info": info, "warnings": video.warnings}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    site: LocalSite

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients are killed in the middle of an answer on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Take new rules."""
        rules = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.site.change(**rules)
        self._send(b"{}", "application/json")

    def do_GET(self) -> None:
        """Serve a page, media, or what was counted; a whole URL means that we are the proxy."""
        site, url = self.server.site, urlsplit(self.path)
        site.seen.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
        if url.path == "/control":
            self._send(json.dumps(site.counts()).encode(), "application/json")
        elif url.path == "/watch":
            self._page(parse_qs(url.query)["v"][0])
        elif url.path.startswith("/media/"):
            video_id = url.path.removeprefix("/media/").rpartition(".")[0]
            site.media[video_id] += 1
            self._media(*site.behaviour(video_id))
        else:
            self.send_error(404)

    def _identity(self) -> str:
        if user := self.headers.get("Proxy-Authorization"):
            return "proxy " + base64.b64decode(user.split()[1]).decode().split(":")[0]
        if session := re.search(r"\bsession=(\w+)", self.headers.get("Cookie", "")):
            return f"cookie {session[1]}"
        return f"ip {self.client_address[0]}"

    def _page(self, video_id: str) -> None:
        site = self.server.site
        refusal = site.visit(video_id, self._identity())
        site.closing.wait(site.rules.delay_s)
        video, kind = site.behaviour(video_id)
        if kind == "page_hang":
            site.closing.wait()
        elif kind == "page_raw":
            self._raw(video)
        elif kind.startswith("page_"):
            self._refuse(int(kind.removeprefix("page_")), video)
        else:
            page = json.dumps(site.describe(video_id, refusal)).encode()
            self._send(page, "application/json", more={"Set-Cookie": "visited=yes; Path=/"})

    def _media(self, video: Video, kind: str) -> None:
        site = self.server.site
        content, mime = site.files[video.container].read_bytes(), TYPES[video.container]
        if kind == "media_hang":
            site.closing.wait()
        elif kind == "media_raw":
            self._raw(video)
        elif kind.startswith("media_"):
            self._refuse(int(kind.removeprefix("media_")), video)
        elif kind == "empty":
            self._send(b"", mime)
        elif kind == "truncated":
            self._send(content[: len(content) // 2], mime)
        elif kind == "html":
            self._send(b"<!doctype html><title>Sorry</title>", mime)
        elif kind in {"cut", "drip"}:
            self._head(200, mime, len(content))
            self._trickle(content, kind)
        else:
            self._send(content, mime, video.ranges, video.length_known)

    def _refuse(self, status: int, video: Video) -> None:
        self._head(status, "text/plain", 0, {"Retry-After": video.wait} if video.wait else {})

    def _raw(self, video: Video) -> None:
        self.close_connection = True
        self.wfile.write(video.raw.encode("latin-1"))

    def _trickle(self, content: bytes, kind: str) -> None:
        """Send a beginning and hang up, or all of it far too slowly."""
        self.close_connection = True
        if kind == "cut":
            self.wfile.write(content[: len(content) // 3])
            return
        for start in range(0, len(content), PIECE):
            self.wfile.write(content[start : start + PIECE])
            if self.server.site.closing.wait(0.5):
                return

    def _send(
        self,
        body: bytes,
        mime: str,
        ranges: bool = False,
        length: bool = True,
        more: dict[str, str] | None = None,
    ) -> None:
        asked = self.headers.get("Range", "").removeprefix("bytes=")
        if ranges and asked:
            first, _, last = asked.partition("-")
            start, end = int(first), min(int(last or len(body)), len(body) - 1) + 1
            part = f"bytes {start}-{end - 1}/{len(body)}"
            self._head(206, mime, end - start, {"Content-Range": part, "Accept-Ranges": "bytes"})
            body = body[start:end]
        else:
            self._head(200, mime, len(body) if length else None, more)
        self.wfile.write(body)

    def _head(
        self, status: int, mime: str, length: int | None, more: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", mime)
        if length is None:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length))
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.end_headers()


def _sweep(folder: Path, container: str, seconds: int) -> Path:
    """Make a file whose pitch tells the time: 200 + 40 t Hz at t seconds, 48 kHz, mono."""
    path = folder / f"sweep-{seconds}.{container}"
    if not path.exists():
        sound = f"aevalsrc=0.4*sin(2*PI*(200*t+20*t*t)):s=48000:d={seconds}"
        picture = f"color=c=gray:s=64x64:r=5:d={seconds}"
        sources = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound]
        command = [ffmpeg_path(), "-nostdin", "-y", "-v", "error", *sources, *CONTAINERS[container]]
        subprocess.run([*command, path], check=True)
    return path


def main() -> None:
    """Serve until the input ends: FOLDER [PORT [SECONDS]]."""
    numbers = [int(argument) for argument in sys.argv[2:]]
    port, seconds = numbers + [0, 60][len(numbers) :]
    with LocalSite(Path(sys.argv[1]), seconds, port) as site:
        sys.stdout.write(site.url + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()

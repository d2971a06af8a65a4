"""A mirror on loopback that serves files by HTTP, and every way in which such servers misbehave."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE = 1 << 14


class Mirror:
    """The server: what it has, how it answers, and what it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        """By path; a path that ends with a slash is the page of a folder."""
        self.pages: set[str] = set()
        """Further pages."""
        self.faults: list[str] = []
        """What the next answers do instead; see `_Handler.answer`."""
        self.always = ""
        """A fault of all answers."""
        self.ranges = True
        """Answer requests for ranges of bytes by these, not by the whole file."""
        self.asked: list[tuple[str, str]] = []
        """Path and Range of every request."""
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.mirror = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def served(self) -> Iterator["Mirror"]:
        """Serve in a thread."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            self.closing.set()
            self._server.shutdown()
            thread.join()
            self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    mirror: Mirror

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients hang up in the middle of an answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Serve a file, or a fault."""
        mirror, asked = self.server.mirror, self.headers.get("Range", "")
        mirror.asked.append((self.path, asked))
        fault = mirror.faults.pop(0) if mirror.faults else mirror.always
        content = mirror.files.get(self.path.split("?")[0])
        if content is None and not fault:
            self.send_error(404)
        else:
            self.answer(content or b"", asked if mirror.ranges else "", fault)

    def answer(self, content: bytes, asked: str, fault: str) -> None:
        """Answer with a part, or all, of a file.

        `fault` is a status and perhaps a Retry-After; `to URL`, a redirect; `hang up`; `cut`, half
        of what is announced; `drip`, all of it, a byte at a time. Of a part alone: `short` and
        `long`, a body of another length; `shifted`, another part, as the header says; `unsaid`, no
        header.
        """
        if fault[:3].isdecimal():
            status, _, wait = fault.partition(" ")
            self._head(int(status), 0, {"Retry-After": wait} if wait else {})
            return
        if fault.startswith("to "):
            self._head(302, 0, {"Location": fault.removeprefix("to ")})
            return
        if fault == "hang up":
            self.close_connection = True
            return
        begin, end, total = 0, len(content), len(content)
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(int(last or total) + 1, total)
            if begin >= total:
                self._head(416, 0, {"Content-Range": f"bytes */{total}"})
                return
        if asked and fault == "shifted":
            begin, end = begin + 64, end + 64
        said = {"Content-Range": f"bytes {begin}-{end - 1}/{total}"} if asked else {}
        body = content[begin:end].ljust(end - begin, b"\0")
        body = {"short": body[:-7], "long": body + b"more"}.get(fault if asked else "", body)
        self._head(206 if asked else 200, len(body), {} if fault == "unsaid" else said)
        self._body(body[: len(body) // 2] if fault == "cut" else body, fault == "drip")
        self.close_connection = fault == "cut"

    def _body(self, body: bytes, drips: bool) -> None:
        piece = 1 if drips else PIECE
        for begin in range(0, len(body), piece):
            self.wfile.write(body[begin : begin + piece])
            if drips and self.server.mirror.closing.wait(0.05):
                return

    def _head(self, status: int, length: int, more: dict[str, str]) -> None:
        self.send_response(status)
        path = self.path.split("?")[0]
        is_page = path.endswith("/") or path in self.server.mirror.pages
        self.send_header("Content-Type", "text/html" if is_page else "application/x-tar")
        self.send_header("Content-Length", str(length))
        for name, value in more.items():
            self.send_header(name, value)
        self.end_headers()

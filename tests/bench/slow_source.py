"""Measure how downloads overlap: an HTTP server that answers late, read as any mirror is."""

import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from audio_barlow_twins.ingest.sources.tars import archive_clips
from audio_barlow_twins.ingest.stage.plan import Plan
from audio_barlow_twins.ingest.stage.stage import Job, ingest
from audio_barlow_twins.shards.decode.ffmpeg import DecodeLimits
from audio_barlow_twins.shards.stored.front_end import FrontEnd

CLIPS_PER_DOWNLOAD = 6
"""How many clips each of the downloads that go on at the same time has to get."""


def overlap(
    paths: list[Path], folder: Path, slots: int, answer_s: float, at_once: int
) -> tuple[float, float]:
    """Ingest a tar from a server that takes its time; return clips/s and the most there can be.

    Args:
        paths: files of sound, for the tar.
        folder: where to put it and what is made of it.
        slots: tasks at a time.
        answer_s: time until the server answers a request for a clip, s.
        at_once: clips that a task gets at the same time.

    Returns:
        Clips/s of the stage, and `slots * at_once / answer_s`, which nothing but the waiting
        would allow.
    """
    n_clips = slots * at_once * CLIPS_PER_DOWNLOAD
    tar = folder / f"{at_once}.tar"
    with tarfile.open(tar, "w") as file:
        for number in range(n_clips):
            source = paths[number % len(paths)]
            file.add(source, f"{number:05d}{source.suffix}")
    with serving(tar, answer_s) as url:
        clips = [replace(clip, path=url) for clip in archive_clips((str(tar),), "labels", None)]
        out = folder / f"out-{at_once}"
        job = Job(out=out, front_end=FrontEnd(), limits=DecodeLimits(), at_once=at_once)
        begin = time.perf_counter()
        outcomes = ingest(job, Plan("webdataset", clips, -(-n_clips // slots)), slots)
        seconds = time.perf_counter() - begin
    if outcomes != {"ok": n_clips}:
        raise RuntimeError(f"not every clip was stored: {dict(outcomes)}")
    return n_clips / seconds, slots * at_once / answer_s


@contextmanager
def serving(path: Path, answer_s: float) -> Iterator[str]:
    """Serve one file, ranges too, each answer after `answer_s`; yield its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Late, path, answer_s))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/{path.name}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Late(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, path: Path, answer_s: float, *args) -> None:
        self.file, self.answer_s = path, answer_s
        super().__init__(*args)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Tell the size, at once."""
        self.send_response(200)
        self.send_header("Content-Length", str(self.file.stat().st_size))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def do_GET(self) -> None:
        """Send a range of bytes, late."""
        time.sleep(self.answer_s)
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        size = self.file.stat().st_size
        begin, end = int(first), min(int(last or size - 1), size - 1) + 1
        with self.file.open("rb") as file:
            file.seek(begin)
            body = file.read(end - begin)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

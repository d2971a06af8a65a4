"""Measure how downloads overlap, with an HTTP server that answers late."""

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
from audio_barlow_twins.shards.decode.sound import DecodeLimits
from audio_barlow_twins.shards.stored.front_end import FrontEnd

CLIPS_PER_DOWNLOAD = 6
"""Clips for each of the concurrent downloads."""


def overlap(
    paths: list[Path], folder: Path, slots: int, answer_s: float, at_once: int
) -> tuple[float, float]:
    """Ingest a tar from a slow server.

    Args:
        paths: sound files for the tar.
        folder: where to write the tar and the shards.
        slots: tasks at a time.
        answer_s: delay of the server's answer to a request for a clip, s.
        at_once: concurrent downloads of a task.

    Returns:
        Clips/s of the stage, and the upper bound `slots * at_once / answer_s`.
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
    """Serve one file, also in ranges, after a delay of `answer_s`; yield its URL."""
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
        pass

    def do_HEAD(self) -> None:
        """Answer with the size, without a delay."""
        self.send_response(200)
        self.send_header("Content-Length", str(self.file.stat().st_size))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def do_GET(self) -> None:
        """Answer with a range of bytes, after the delay."""
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

"""What ffmpeg writes, as it comes: bounded in time, and ended by its first complaint."""

import os
import re
import subprocess
import time
from collections.abc import Generator, Iterator
from selectors import EVENT_READ, PollSelector

from .errors import BadAudio

_READ = 2**16


def output_of(command: list[str], timeout_s: float) -> Generator[bytes, None, None]:
    """Run a command and yield its output; it is killed when the generator is closed.

    Raises:
        BadAudio: it wrote a line of errors, failed, or was not done in time, however much it
            wrote.
    """
    until = time.monotonic() + timeout_s
    with (
        subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child,
        PollSelector() as selector,
    ):
        try:
            yield from _blocks(child, selector, until)
            child.wait(max(until - time.monotonic(), 0))
        except (subprocess.TimeoutExpired, TimeoutError):
            raise BadAudio(f"ffmpeg took longer than {timeout_s:g} s") from None
        finally:
            child.kill()
        if child.returncode:
            raise BadAudio(f"ffmpeg cannot decode it: {_reason(b'')}")


def _blocks(
    child: subprocess.Popen[bytes], selector: PollSelector, until: float
) -> Iterator[bytes]:
    """Yield blocks of the output until both pipes are closed."""
    complaint = b""
    for pipe, name in ((child.stderr, "errors"), (child.stdout, "output")):
        selector.register(pipe, EVENT_READ, name)  # type: ignore[arg-type]
    while selector.get_map():
        ready = {key.data: key.fd for key, _ in selector.select(until - time.monotonic())}
        if time.monotonic() > until:
            raise TimeoutError
        # Errors first, so that what is yielded was not known to be wrong.
        for name in sorted(ready):
            block = os.read(ready[name], _READ)
            if not block:
                selector.unregister(ready[name])
            elif name == "output":
                yield block
            elif b"\n" in (complaint := complaint + block).lstrip():
                raise BadAudio(f"ffmpeg cannot decode it: {_reason(complaint)}")
    if complaint.strip():
        raise BadAudio(f"ffmpeg cannot decode it: {_reason(complaint)}")


def _reason(stderr: bytes) -> str:
    """Keep the first thing that was said, without the memory addresses of its parts."""
    first = stderr.decode(errors="replace").strip().split("\n")[0]
    return re.sub(r"\[[^]]* @ 0x[0-9a-f]+\] ?", "", first).strip()[:300] or "it said nothing"

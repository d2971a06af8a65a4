"""Stream ffmpeg's output, bounded in time and stopped at its first error message."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Generator, Iterator
from selectors import EVENT_READ, PollSelector

from .errors import BadAudio, ClockError, DecoderStopped
from .ffmpeg import clock_complaint

_READ = 2**16


def output_of(
    command: list[str], timeout_s: float, by_block: bool = False
) -> Generator[bytes, None, None]:
    """Run a command and yield its output; closing the generator kills it.

    Args:
        timeout_s: longest run, s; or, with `by_block`, longest wait for a block of output.

    Raises:
        BadAudio: it printed an error, or failed.
        DecoderStopped: it was killed, or took too long.
    """
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
            yield from _blocks(child, selector, timeout_s, by_block)
            child.wait(timeout_s)
        except (subprocess.TimeoutExpired, TimeoutError):
            raise DecoderStopped(f"ffmpeg took longer than {timeout_s:g} s") from None
        finally:
            child.kill()
        if child.returncode < 0:
            name = signal.Signals(-child.returncode).name
            raise DecoderStopped(f"ffmpeg was ended by {name}; perhaps memory ran out")
        if child.returncode:
            raise _error(b"")


def _blocks(
    child: subprocess.Popen[bytes], selector: PollSelector, timeout_s: float, by_block: bool
) -> Iterator[bytes]:
    complaint, until = b"", time.monotonic() + timeout_s
    for pipe, name in ((child.stderr, "errors"), (child.stdout, "output")):
        selector.register(pipe, EVENT_READ, name)  # type: ignore[arg-type]
    while selector.get_map():
        ready = {key.data: key.fd for key, _ in selector.select(until - time.monotonic())}
        if time.monotonic() > until:
            raise TimeoutError
        # Errors first, so that no block is yielded after its error has arrived.
        for name in sorted(ready):
            block = os.read(ready[name], _READ)
            if not block:
                selector.unregister(ready[name])
            elif name == "output":
                yield block
                if by_block:
                    until = time.monotonic() + timeout_s
            elif b"\n" in (complaint := complaint + block).lstrip():
                raise _error(complaint)
    if complaint.strip():
        raise _error(complaint)


def _error(stderr: bytes) -> BadAudio:
    """Return what the first line of the errors says, without memory addresses."""
    first = stderr.decode(errors="replace").strip().split("\n")[0]
    reason = re.sub(r"\[[^]]* @ 0x[0-9a-f]+\] ?", "", first).strip()[:300]
    if complaint := clock_complaint(reason):
        return ClockError(complaint)
    return BadAudio(f"ffmpeg cannot decode it: {reason or 'it said nothing'}")

"""Which processes there are and whose children they are, from /proc."""

import os
from pathlib import Path


def processes() -> list[int]:
    """List the ids of all processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def parent_of(pid: int) -> int:
    """Return the parent of a process, 0 if it is gone or a zombie."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return 0
    return 0 if state == "Z" else int(parent)


def command_line(pid: int) -> str:
    """Return the command line of a process, '' if it is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def descendants(pid: int) -> dict[int, str]:
    """List the command lines of all processes below one by process id."""
    parents = {each: parent_of(each) for each in processes()}
    below: dict[int, str] = {}
    front = {pid}
    while front:
        front = {each for each, parent in parents.items() if parent in front}
        below |= {each: command_line(each) for each in front}
    return below

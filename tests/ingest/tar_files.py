"""Tars as any tool might write them, and the clips that are listed of tars."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from audio_barlow_twins.ingest.sources.clip import Clip
from audio_barlow_twins.ingest.sources.tars import archive_clips


def write_tar(
    path: Path, members: Mapping[str, bytes] | Iterable[tuple[str, bytes]], **how: int
) -> Path:
    """Write members in their order; a name may come twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **how) as tar:  # type: ignore[call-overload]
        for name, content in members.items() if isinstance(members, Mapping) else members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def add_member(path: Path, name: str, kind: bytes, target: str = "") -> None:
    """Append a member without content: a link, a FIFO, …"""
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        tar.addfile(member)


def clips_of(*urls: Path | str, field: str = "labels", labels: Path | None = None) -> list[Clip]:
    """List the clips of tars."""
    return archive_clips(tuple(map(str, urls)), field, labels)


def audio_of(clip: Clip) -> bytes:
    """Return what a clip's part of its tar holds."""
    assert clip.part
    offset, size = clip.part
    with open(clip.path, "rb") as tar:
        tar.seek(offset)
        return tar.read(size)

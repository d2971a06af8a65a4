"""Take the audio out of a Debian package, and the file that tells its licence."""

import logging
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Container
from pathlib import Path, PurePosixPath
from shutil import which
from typing import IO, NamedTuple, cast

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.decode.files import ENDINGS

from ..clip import normal_name

log = logging.getLogger(__name__)

ARCHIVES = frozenset({".jar", ".love", ".pk3", ".pk4", ".sdz", ".wz", ".zip"})
"""Endings of zip files, in which games keep their sounds."""
COPYRIGHT = re.compile(r"usr/share/doc/[^/]+/copyright")
NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
"""Names of packages by Debian's policy."""


class Unpacked(NamedTuple):
    """A package whose audio lies in a folder."""

    name: str
    version: str
    folder: Path


def find_unpacked(folder: Path) -> dict[str, Unpacked]:
    """Return the packages that are unpacked below a folder, by name; the latest made of each."""
    found = sorted(folder.glob("[!.]*_*"), key=lambda path: path.stat().st_mtime)
    return {(each := _unpacked(path)).name: each for path in found if path.is_dir()}


def unpack(deb: Path, folder: Path, endings: Container[str] = ENDINGS) -> Unpacked:
    """Unpack files of some endings and the licence into `folder`/NAME_VERSION, or nothing at all.

    Files in zip archives of the package come, too, as if the archive were a folder. Links are left
    out: what they lead to is there by its own name.

    Raises:
        UserError: dpkg-deb is missing, or cannot read the package.
    """
    if not which("dpkg-deb"):
        raise UserError(
            "dpkg-deb, which unpacks Debian packages, is not installed; it is in the package dpkg, "
            "also of Fedora, Arch and Homebrew"
        )
    name, version = _ask(deb, "Package"), _ask(deb, "Version")
    # A colon, which sets off an epoch, is no character for file names everywhere.
    target = folder / f"{name}_{version.replace(':', '%3a')}"
    scratch = folder / f".{target.name}.tmp"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        try:
            links = _extract(cast("IO[bytes]", child.stdout), scratch, endings)
        except (tarfile.TarError, zipfile.BadZipFile) as error:
            raise UserError(f"{deb.name} cannot be unpacked: {error}") from error
        reason = child.stderr.read().decode(errors="replace") if child.stderr else ""
    if child.returncode:
        raise UserError(f"{deb.name} cannot be unpacked: {reason.strip()[-300:]}")
    if links:
        log.info("%s: %d links to audio are left out", name, links)
    scratch.rename(target)
    return Unpacked(name, version, target)


def _extract(stream: IO[bytes], folder: Path, endings: Container[str]) -> int:
    """Write the wanted files of a tar into a folder; return how many links to such there are."""
    links = 0
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            ending = PurePosixPath(member.name).suffix.lower()
            wanted = ending in endings or COPYRIGHT.fullmatch(normal_name(member.name))
            if member.isfile() and (wanted or ending in ARCHIVES):
                target = _inside(folder, member.name)
                content = cast("IO[bytes]", tar.extractfile(member))
                if wanted:
                    _write(target, content)
                else:
                    _extract_zip(target, content, endings)
            elif not member.isfile():
                links += ending in endings
    return links


def _extract_zip(folder: Path, content: IO[bytes], endings: Container[str]) -> None:
    """Write the wanted files of a zip archive, which comes as a stream, into a folder."""
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(content, copy)
        with zipfile.ZipFile(copy) as archive:
            for member in archive.infolist():
                if PurePosixPath(member.filename).suffix.lower() in endings:
                    with archive.open(member) as inner:
                        _write(_inside(folder, member.filename), inner)


def _inside(folder: Path, name: str) -> Path:
    """Return where a member goes; TarError if that is outside of the folder."""
    name = normal_name(name)
    if ".." in name.split("/"):
        raise tarfile.TarError(f"{name} leads out of its folder")
    return folder / name


def _write(target: Path, content: IO[bytes]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(content, file)


def _ask(deb: Path, field: str) -> str:
    done = subprocess.run(["dpkg-deb", "--field", deb, field], capture_output=True, text=True)
    if done.returncode or not done.stdout.strip():
        raise UserError(f"{deb.name} is no Debian package: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


def _unpacked(path: Path) -> Unpacked:
    name, _, version = path.name.partition("_")
    return Unpacked(name, version.replace("%3a", ":"), path)

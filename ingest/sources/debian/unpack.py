"""Take the audio out of a Debian package, and the file that tells its licence."""

import logging
import re
import shutil
import subprocess
import tarfile
from collections.abc import Container
from pathlib import Path, PurePosixPath
from shutil import which
from typing import NamedTuple

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.decode.files import ENDINGS

from ..clip import normal_name

log = logging.getLogger(__name__)

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

    Links are left out: what they lead to is there by its own name.

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
            left_out = _extract(child, scratch, endings)
        except tarfile.TarError as error:
            raise UserError(f"{deb.name} cannot be unpacked: {error}") from error
        reason = child.stderr.read().decode(errors="replace") if child.stderr else ""
    if child.returncode:
        raise UserError(f"{deb.name} cannot be unpacked: {reason.strip()[-300:]}")
    if left_out:
        log.info("%s: %d links to audio are left out", name, left_out)
    scratch.rename(target)
    return Unpacked(name, version, target)


def _extract(child: subprocess.Popen[bytes], folder: Path, endings: Container[str]) -> int:
    """Write the wanted files of a tar that a process prints; return how many links are not."""
    links = 0
    with tarfile.open(fileobj=child.stdout, mode="r|") as tar:
        for member in tar:
            name = normal_name(member.name)
            sound = PurePosixPath(name).suffix.lower() in endings
            if not (sound or COPYRIGHT.fullmatch(name)):
                continue
            if member.issym() or member.islnk():
                links += sound
            elif member.isfile():
                if ".." in name.split("/"):
                    raise tarfile.TarError(f"{name} leads out of its folder")
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                assert content is not None
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file)
    return links


def _ask(deb: Path, field: str) -> str:
    done = subprocess.run(["dpkg-deb", "--field", deb, field], capture_output=True, text=True)
    if done.returncode or not done.stdout.strip():
        raise UserError(f"{deb.name} is no Debian package: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


def _unpacked(path: Path) -> Unpacked:
    name, _, version = path.name.partition("_")
    return Unpacked(name, version.replace("%3a", ":"), path)

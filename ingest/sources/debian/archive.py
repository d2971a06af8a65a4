"""Where Debian packages come from: apt-get as this machine is set up, or a mirror."""

import hashlib
import lzma
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from shutil import which
from typing import NamedTuple, Protocol

from audio_barlow_twins.shards.base.errors import ClipError, UserError

from ...errors import NetworkTrouble
from ..remote.client import answered, blocks, in_time, trying

INDEX = "main/binary-amd64/Packages.xz"
"""Lists the packages for all architectures, too; `main` is what is free by the guidelines."""
LARGEST = 1 << 32
"""Size that an answer may have that does not say its own, bytes."""
_ABSENT = ("Unable to locate package", "No candidate version", "no installation candidate")
"""What apt-get says of a package that it does not know."""


class Missing(Exception):
    """The archive has no such package."""


class Archive(Protocol):
    """Has packages."""

    def get(self, name: str) -> AbstractContextManager[Path]:
        """Yield the package as a file, which is deleted when the block ends.

        Raises:
            Missing: there is no such package.
            UserError: it cannot be fetched.
        """


class AptGet:
    """The archives that apt of this machine is set up for; it checks their signatures."""

    def __str__(self) -> str:
        return "apt-get"

    @contextmanager
    def get(self, name: str) -> Iterator[Path]:
        if not which("apt-get"):
            raise UserError(
                "apt-get is not on this machine; name a mirror instead: --mirror "
                "https://deb.debian.org/debian"
            )
        with tempfile.TemporaryDirectory(prefix="debian-") as folder:
            done = subprocess.run(
                # apt's own user may not write into this folder, of which root would be warned.
                ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name],
                cwd=folder,
                capture_output=True,
                text=True,
                env={**os.environ, "LC_ALL": "C"},
            )
            if any(absent in done.stderr for absent in _ABSENT):
                raise Missing(name)
            found = sorted(Path(folder).glob("*.deb"))
            if done.returncode or len(found) != 1:
                reason = done.stderr.strip()[-300:]
                raise UserError(f"`apt-get download {name}` failed: {reason}")
            yield found[0]


class _Listed(NamedTuple):
    """A package in a mirror's index."""

    path: str
    sha256: str


class Mirror:
    """A Debian mirror behind HTTP; packages are checked against the SHA-256 of its index."""

    def __init__(self, url: str, suite: str) -> None:
        self.url, self.suite = url.rstrip("/"), suite

    def __str__(self) -> str:
        return f"{self.suite} of {self.url}"

    @contextmanager
    def get(self, name: str) -> Iterator[Path]:
        if name not in self._index:
            raise Missing(name)
        path, wanted = self._index[name]
        with tempfile.TemporaryDirectory(prefix="debian-") as folder:
            deb = Path(folder, path.rpartition("/")[2])
            got = _fetched(f"{self.url}/{path}", deb)
            if got != wanted:
                raise UserError(
                    f"{self.url}/{path} has the SHA-256 {got}, its index says {wanted}; the mirror "
                    "is being updated or damaged: try again later, or another"
                )
            yield deb

    @cached_property
    def _index(self) -> dict[str, _Listed]:
        url = f"{self.url}/dists/{self.suite}/{INDEX}"
        with tempfile.NamedTemporaryFile(prefix="debian-") as file:
            _fetched(url, Path(file.name))
            try:
                text = lzma.decompress(Path(file.name).read_bytes()).decode()
            except (lzma.LZMAError, UnicodeDecodeError) as error:
                raise UserError(f"{url} is no index of packages: {error}") from error
        return dict(_listed(text))


def _listed(index: str) -> Iterator[tuple[str, _Listed]]:
    """Yield the packages of an index: paragraphs of `Field: value` lines."""
    for paragraph in index.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line)
        if "Package" in fields:
            yield fields["Package"], _Listed(fields["Filename"], fields["SHA256"])


def _fetched(url: str, target: Path) -> str:
    """Write what is behind a URL into a file and return its SHA-256."""

    def ask() -> str:
        digest = hashlib.sha256()
        with answered(url) as response, target.open("wb") as file:
            length = response.headers.get("Content-Length", "")
            size = int(length) if length.isdecimal() else None
            for block in in_time(blocks(response), LARGEST if size is None else size):
                digest.update(block)
                file.write(block)
        if size not in (None, target.stat().st_size):
            raise NetworkTrouble("the answer was cut short")
        return digest.hexdigest()

    try:
        return trying(ask, url)
    except ClipError as error:
        raise UserError(f"{url} cannot be fetched: {error}") from error

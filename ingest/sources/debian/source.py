"""A source of clips: the audio inside Debian packages, all of it free by Debian's guidelines."""

import csv
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from audio_barlow_twins.shards.base.cli import Positional
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import make_folder
from audio_barlow_twins.shards.base.progress import Progress
from audio_barlow_twins.shards.decode.files import find_audio, shown

from ..clip import Clip, clip_keys, told_apart
from ..source import NamedSource
from .archive import AptGet, Archive, Mirror, Missing
from .unpack import NAME, Unpacked, find_unpacked, unpack

log = logging.getLogger(__name__)

OWN_LIST = Path(__file__).parent / "packages.csv"


@dataclass(frozen=True, kw_only=True)
class Debian(NamedSource):
    """Ingest the audio inside Debian packages, which are unpacked and not installed.

    Without a list, the corpus of the reference encoder: speech in many languages, music, effects.
    Packages come by `apt-get download` or from a mirror, and need dpkg-deb to be unpacked.
    """

    name = "debian"

    packages: Positional[Path] = OWN_LIST
    """CSV with the column `package`, and perhaps `version`: another one that comes is a warning."""
    out: str = "data/debian"
    """Folder or URL for the results: `OUT/wave` and `OUT/logmel`, a shard set each."""
    unpacked: Path | None = None
    """Folder for what is unpacked, a folder NAME_VERSION each; default: `OUT/packages`."""
    mirror: str = ""
    """Address of a Debian mirror, such as https://deb.debian.org/debian; default: what `apt-get`
    of this machine is set up for."""
    suite: str = "bookworm"
    """Release to take from the mirror."""
    missing: Literal["stop", "skip"] = "stop"
    """What to do if packages of the list are not to be had."""
    duplicates: Literal["keep", "drop"] = "drop"

    def files(self) -> list[Clip]:
        wanted = read_packages(self.packages)
        folder = self.unpacked or self._beside()
        got = fetch(wanted, folder, self._archive(), self.missing)
        warn_of_versions(wanted, got)
        return debian_clips(got)

    def _beside(self) -> Path:
        if "://" in self.out:
            raise UserError(f"{self.out} is a URL; name a folder for the packages by --unpacked")
        return Path(self.out) / "packages"

    def _archive(self) -> Archive:
        return Mirror(self.mirror, self.suite) if self.mirror else AptGet()


def read_packages(path: Path) -> dict[str, str]:
    """Return the version of each package of a list, '' where it names none.

    Raises:
        UserError: no such list, or a row that names no package, or one again.
    """
    found: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if "package" not in (reader.fieldnames or ()):
                raise UserError(f"{path} has no column `package`")
            for number, row in enumerate(reader, start=2):
                name, version = ((row.get(key) or "").strip() for key in ("package", "version"))
                if not NAME.fullmatch(name) or name in found:
                    raise UserError(
                        f"{path}, line {number}: {name!r} is no package, or comes again"
                    )
                found[name] = version
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a list of packages: {error}") from error
    if not found:
        raise UserError(f"{path} lists no package")
    return found


def fetch(
    wanted: Iterable[str], folder: Path, archive: Archive, missing: Literal["stop", "skip"]
) -> list[Unpacked]:
    """Return the packages, unpacked below `folder`; what is there already is not fetched again.

    Raises:
        UserError: packages are missing from the archive, unless they are to be skipped.
    """
    make_folder(folder)
    wanted, there = list(wanted), find_unpacked(folder)
    lacking = [name for name in wanted if name not in there]
    absent = []
    with Progress(total=len(lacking), title="unpack", unit="package") as bar:
        for name in lacking:
            try:
                with archive.get(name) as deb:
                    there[name] = unpack(deb, folder)
            except Missing:
                absent.append(name)
            bar.update(1)
    if absent and missing == "stop":
        raise UserError(
            f"{archive} has not got {', '.join(absent)}; take the rest by --missing skip, or all "
            "from another release: --mirror https://deb.debian.org/debian --suite bookworm"
        )
    if absent:
        log.warning("%s has not got %s, which is left out", archive, ", ".join(absent))
    return [there[name] for name in wanted if name in there]


def warn_of_versions(wanted: dict[str, str], got: Sequence[Unpacked]) -> None:
    """Log which packages came in another version than listed."""
    for each in got:
        if wanted[each.name] not in ("", each.version):
            log.warning("%s is %s, the list has %s", each.name, each.version, wanted[each.name])


def debian_clips(packages: Sequence[Unpacked]) -> list[Clip]:
    """List the audio of packages, in the order of the packages and of their paths."""
    found = [(package, path) for package in packages for path in find_audio(package.folder).audio]
    origins = told_apart(
        f"{each.name}/{shown(path.relative_to(each.folder))}" for each, path in found
    )
    if not found:
        raise UserError("no audio file in these packages")
    return [
        Clip(
            key=key,
            source=f"debian {each.name} {each.version}, usr/share/doc/{each.name}/copyright",
            path=str(path.absolute()),
            origin=origin,
        )
        for key, origin, (each, path) in zip(clip_keys(origins), origins, found, strict=True)
    ]

"""A source of clips: WebDataset tars of audio files, here or behind any fsspec URL."""

import json
import logging
import posixpath
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Self

from audio_barlow_twins.shards.base.cli import Positional
from audio_barlow_twins.shards.base.errors import UserError, first_line
from audio_barlow_twins.shards.decode.files import ENDINGS, HIDDEN, Found, is_hidden, shown

from .clip import Clip, Event, as_text, clip_keys, normal_name, told_apart
from .labels import BadLabels, Labelled, as_labels, read_labels, value_at
from .remote.open import listed_size, opened_to_list
from .remote.urls import find_urls, short_names
from .source import NamedSource

log = logging.getLogger(__name__)

URL_ENDINGS = ["tar", "tar.gz", "tgz", "tar.bz2", "tbz2", "tar.xz", "txz", "tar.zst", "tzst"]
COMPRESSED = {
    "gzip": (rb"\x1f\x8b\x08", "gunzip"),
    "bzip2": (rb"BZh[1-9]1AY&SY", "bunzip2"),
    "xz": (rb"\xfd7zXZ\0", "unxz"),
    "zstd": (rb"\x28\xb5\x2f\xfd", "unzstd"),
}
"""How compressed files begin, and what unpacks them."""
NAME_TYPES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
"""Members that only describe the next one."""
LARGEST_NAME = 1 << 20
"""Largest of them, bytes; they are read into memory."""
LARGEST_JSON = 1 << 24
"""Largest JSON that is read for labels, bytes."""
AGAIN = "the tar is cut or damaged: get it again"
MOST_LINKS = 40
"""Links that are followed one after the other."""


@dataclass(frozen=True, kw_only=True)
class Webdataset(NamedSource):
    """Ingest WebDataset tars of audio files, for instance a mirror of AudioSet.

    Every sound is a clip, by the ending of its name; links inside a tar are followed.
    """

    name = "webdataset"

    urls: Positional[tuple[str, ...]]
    """Tars, folders of tars or patterns; paths, or URLs that fsspec opens. One that is compressed
    (clips are read by their place in a tar), cut or damaged stops the command before it starts."""
    label_field: str = "labels"
    """Entry of a sound's JSON that holds its label or a list of them; a path such as tags.name
    leads into objects, and lists of them; '' reads no JSON. a.b.json belongs to a.b.wav, a.json to
    all sounds of WebDataset's key a that have no own."""
    labels: Path | None = None
    """CSV with the columns `path` (a sound's name in its tar, with or without its ending, or
    WebDataset's key) and `labels` (separated by `;`), perhaps `start_s` and `end_s`; replaces the
    labels of the JSON."""

    def files(self) -> list[Clip]:
        return archive_clips(self.urls, self.label_field, self.labels)


@dataclass(eq=False)
class _Entry:
    """A sound in a tar, or a JSON of labels."""

    member: str
    """Normal name."""
    part: tuple[int, int] | None = None
    target: str = ""
    """Member that this one links to."""
    labels: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    timed: tuple[str, ...] = ()
    refused: str = ""

    @property
    def name(self) -> str:
        """Path without the last ending."""
        return posixpath.splitext(self.member)[0]

    @property
    def key(self) -> str:
        """Path up to the first dot of the base name, as WebDataset groups members."""
        folder, base = posixpath.split(self.member)
        return posixpath.join(folder, base.partition(".")[0])

    def take_labels(self, known: Mapping[str, Labelled]) -> None:
        """Take what a CSV says by its most precise name, if anything, in place of the JSON."""
        names = (self.member, self.name, self.key)
        if given := next((known[name] for name in names if name in known), None):
            self.labels, self.events, self.timed = given
            self.refused = "" if self.part else self.refused


def archive_clips(urls: tuple[str, ...], label_field: str, labels: Path | None) -> list[Clip]:
    """List the audio in tars, in the order of the tars and of their members; see `Webdataset`.

    Raises:
        UserError: there is no tar, a tar is damaged, or the labels do not fit.
    """
    paths = find_urls(urls, *URL_ENDINGS)
    short = short_names(paths)
    sounds, left_out = list[tuple[str, _Entry]](), list[tuple[str, str]]()
    for path in paths:
        tar = _read(path, label_field)
        sounds += [(path, sound) for sound in tar.sounds]
        left_out += [(short[path], member) for member in tar.left_out()]
    about = _say_left_out(left_out, len(paths))
    if not sounds:
        raise UserError(
            f"no audio in the tars of {' '.join(urls)}{about}; endings: {' '.join(sorted(ENDINGS))}"
        )
    origins = told_apart(as_text(f"{short[path]}/{sound.member}") for path, sound in sounds)
    keys = clip_keys(origins, [f"{sound.name}.audio" for _, sound in sounds])
    if labels:
        names = {name for _, each in sounds for name in (each.member, each.name, each.key)}
        known = read_labels(labels, names)
        for _, sound in sounds:
            sound.take_labels(known)
    return [
        Clip(
            key=key,
            source=f"webdataset {shown(PurePosixPath(path).parent.name)}",
            path=path,
            origin=origin,
            labels=sound.labels,
            events=sound.events,
            timed=sound.timed,
            part=sound.part,
            refused=as_text(sound.refused),
            archive_bytes=listed_size(path),
        )
        for key, origin, (path, sound) in zip(keys, origins, sounds, strict=True)
    ]


def _say_left_out(members: list[tuple[str, str]], n_tars: int) -> str:
    """Log what is left out; return it as a remark, '' if nothing is."""
    if not members:
        return ""
    kinds = Found(other=Counter(_kind(member) for _, member in members)).left_out()
    first = as_text(", ".join(f"{tar}/{member}" for tar, member in members[:3]))
    log.info(
        "%d members of %d tars are left out (%s), first %s", len(members), n_tars, kinds, first
    )
    return f" (left out: {kinds})"


def _kind(member: str) -> str:
    ending = posixpath.splitext(member)[1].lower()
    return HIDDEN if _is_hidden(member) else ending or "no ending"


def _is_hidden(member: str) -> bool:
    """Tell what macOS and some writers of tars add: resource forks, and headers as files."""
    return any(
        (is_hidden(part) and part != "..")
        or part in ("__MACOSX", "PaxHeader")
        or part.startswith("PaxHeaders")
        for part in member.split("/")
    )


def _read(url: str, label_field: str) -> "_Tar":
    """Read the headers of a tar and its JSON members, but not the audio."""
    contents = _Tar(label_field)
    try:
        with opened_to_list(url) as file:
            for tar, member in _members(file, url):
                contents.add(tar, member)
    except (tarfile.TarError, OSError, ValueError, RecursionError) as error:
        reason = as_text(first_line(error))
        raise UserError(f"{url} cannot be read as a tar of audio: {reason}") from error
    contents.join()
    return contents


class _Tar:
    """What the headers and the JSON of a tar say."""

    def __init__(self, label_field: str) -> None:
        self._label_field = label_field
        self.sounds: list[_Entry] = []
        self._notes: dict[str, list[_Entry]] = {}
        self._parts: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        self._other: list[str] = []
        self._used: set[_Entry] = set()

    def add(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Take note of a member; called in the order of the tar."""
        if member.isdir():
            return
        entry = self._entry(member)
        if entry.part:
            self._parts[entry.member] = entry.part
        if entry.target:
            self._links[entry.member] = entry.target
        kind = _kind(entry.member)
        if kind in ENDINGS:
            self.sounds.append(entry)
        elif kind == ".json" and self._label_field:
            if entry.part:
                self._read_labels(entry, tar, member)
            self._notes.setdefault(entry.name, []).append(entry)
        else:
            self._other.append(entry.member)

    def _entry(self, member: tarfile.TarInfo) -> _Entry:
        name = normal_name(member.name)
        if member.islnk():
            return _Entry(name, target=normal_name(member.linkname))
        if member.issym():
            target = posixpath.join(posixpath.dirname(name), member.linkname)
            return _Entry(name, target=posixpath.normpath(target))
        if member.issparse():
            return _Entry(name, refused=f"{name} is stored with holes, as a sparse file")
        if not member.isreg():
            return _Entry(name, refused=f"{name} is no file, but a member of type {member.type!r}")
        return _Entry(name, (member.offset_data, member.size))

    def _read_labels(self, note: _Entry, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        file = tar.extractfile(member) if member.size <= LARGEST_JSON else None
        if file is None:
            note.refused = f"{note.member} has {member.size} bytes, more than {LARGEST_JSON}"
            return
        try:
            about = json.loads(file.read())
            value = value_at(about, self._label_field) if isinstance(about, dict) else None
            note.labels = as_labels(value, self._label_field)
        except BadLabels as error:
            note.refused = f"{note.member}: {error}"
        except RecursionError:
            note.refused = f"{note.member} cannot be read as JSON: it is nested too deep"
        except ValueError as error:
            note.refused = f"{note.member} cannot be read as JSON: {first_line(error)}"

    def join(self) -> None:
        """Follow the links and give the sounds their labels, once all members are known."""
        notes = [note for same in self._notes.values() for note in same]
        by_member = {note.member: note for note in notes if not note.target}
        for note in notes:
            if note.target and (found := by_member.get(self._followed(note))):
                note.labels, note.refused = found.labels, found.refused
            elif note.target:
                note.refused = f"{note.member} is a link to {note.target}, no JSON of this tar"
        total, seen = Counter(sound.name for sound in self.sounds), Counter[str]()
        for sound in self.sounds:
            if sound.target:
                sound.part = self._parts.get(self._followed(sound))
            if sound.target and not sound.part:
                sound.refused = f"{sound.member} is a link to {sound.target}, no file of this tar"
            if same := self._notes.get(sound.name) or self._notes.get(sound.key):
                # As many JSONs as sounds of one name: members that were added twice, in pairs.
                pairs = len(same) == total[sound.name]
                note = same[seen[sound.name] if pairs else -1]
                sound.labels, sound.refused = note.labels, sound.refused or note.refused
                self._used.add(note)
            seen[sound.name] += 1

    def _followed(self, link: _Entry) -> str:
        """Return the member at the end of a chain of links, if it is there and no link itself."""
        name = link.target
        for _ in range(MOST_LINKS):
            if name in self._parts or name not in self._links:
                break
            name = self._links[name]
        return name

    def left_out(self) -> list[str]:
        """Return the members that are neither sounds nor labels of one."""
        notes = [note for same in self._notes.values() for note in same]
        return self._other + [note.member for note in notes if note not in self._used]


class _Header(tarfile.TarInfo):
    """A header whose size is checked before it is believed: Python's module would seek back."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0 or (member.type in NAME_TYPES and member.size > LARGEST_NAME):
            raise ValueError(f"the header of {member.name} says {member.size} bytes; {AGAIN}")
        return member


def _members(file: IO[bytes], url: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield the members of a tar with their tar.

    Raises:
        ValueError: it is compressed, cut or damaged.
    """
    _refuse_compressed(file)
    n_bytes, last = file.seek(0, 2), "its beginning"
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", tarinfo=_Header) as tar:
        for member in tar:
            last = member.name
            if member.size < 0 or (member.isreg() and member.offset_data + member.size > n_bytes):
                raise ValueError(
                    f"{last} has {member.size} bytes from byte {member.offset_data} on, the tar "
                    f"{n_bytes}; {AGAIN}"
                )
            yield tar, member
        _check_end(file, tar.offset, last, url)


def _refuse_compressed(file: IO[bytes]) -> None:
    head = file.read(16)
    for kind, (begin, tool) in COMPRESSED.items():
        if re.match(begin, head):
            raise ValueError(
                f"it is compressed ({kind}), and a clip is read by its place in a tar; unpack it "
                f"first: {tool} < THIS > NEW.tar"
            )


def _check_end(file: IO[bytes], position: int, last: str, url: str) -> None:
    """Check that nothing follows the last member: Python's module takes any junk for the end."""
    file.seek(position)
    block = file.read(tarfile.BLOCKSIZE)
    if not block:
        log.warning("%s ends after %s without an end mark; it may lack members", url, last)
    elif len(block) < tarfile.BLOCKSIZE or any(block):
        raise ValueError(f"there is no header behind {last}, at byte {position}; {AGAIN}")
    while block := file.read(tarfile.BLOCKSIZE):
        if any(block):
            break
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return  # what fills the last record is anybody's
    raise ValueError(
        f"another tar follows behind {last}; write it anew as one: "
        "tar --ignore-zeros -xf THIS, tar -cf NEW.tar"
    )

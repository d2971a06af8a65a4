"""A source of clips: WebDataset tars of audio files, here or behind any fsspec URL."""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from audio_barlow_twins.shards.base.cli import Positional
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.decode.files import ENDINGS

from .clip import Clip, as_labels, clip_keys
from .folder import read_labels
from .remote.open import listed_size, opened_to_list
from .remote.urls import find_urls, short_names
from .source import NamedSource


@dataclass(frozen=True, kw_only=True)
class Webdataset(NamedSource):
    """Ingest WebDataset tars of audio files, for instance a mirror of AudioSet."""

    name = "webdataset"

    urls: Positional[tuple[str, ...]]
    """Tars, folders of tars or patterns; paths, or URLs that fsspec opens."""
    label_field: str = "labels"
    """Entry of a sample's JSON that holds its label or a list of them."""
    labels: Path | None = None
    """CSV with the columns `path` (a sample's name in its tar) and `labels` (separated by `;`)."""

    def files(self) -> list[Clip]:
        return archive_clips(self.urls, self.label_field, self.labels)


@dataclass
class _Sample:
    """The members of a tar that share a name up to the first dot."""

    name: str
    audio: tarfile.TarInfo | None = None
    labels: tuple[str, ...] = ()


def archive_clips(urls: tuple[str, ...], label_field: str, labels: Path | None) -> list[Clip]:
    """List the audio in tars, in the order of the tars and of their members; see `Webdataset`.

    A CSV of labels replaces those of the samples' JSON.

    Raises:
        UserError: there is no tar, a tar is damaged, or the labels do not fit.
    """
    tars = find_urls(urls, "tar")
    samples = [(url, sample) for url in tars for sample in _samples(url, label_field)]
    if not samples:
        raise UserError(f"no audio in the tars of {' '.join(urls)}; endings: {' '.join(ENDINGS)}")
    members = [sample.audio for _, sample in samples if sample.audio]
    tar_names = short_names(tars)
    origins = [
        f"{tar_names[url]}/{member.name}".encode("utf-8", "backslashreplace").decode()
        for (url, _), member in zip(samples, members, strict=True)
    ]
    names = [f"{sample.name}.audio" for _, sample in samples]
    known = read_labels(labels, [sample.name for _, sample in samples]) if labels else {}
    return [
        Clip(
            key=key,
            source=f"webdataset {PurePosixPath(url).parent.name}",
            path=url,
            origin=origin,
            labels=known.get(sample.name, sample.labels),
            part=(member.offset_data, member.size),
            archive_bytes=listed_size(url),
        )
        for key, (url, sample), origin, member in zip(
            clip_keys(origins, names), samples, origins, members, strict=True
        )
    ]


def _samples(url: str, label_field: str) -> Iterator[_Sample]:
    """Read the headers of a tar and its JSON members, but not the audio."""
    samples: dict[str, _Sample] = {}
    try:
        with opened_to_list(url) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                folder, _, base = member.name.rpartition("/")
                stem, _, ending = base.partition(".")
                name = f"{folder}/{stem}" if folder else stem
                sample = samples.setdefault(name, _Sample(name))
                if ending.lower() == "json":
                    sample.labels = _labels(tar.extractfile(member), label_field)
                elif f".{ending.lower()}" in ENDINGS and sample.audio is None:
                    sample.audio = member
    except (tarfile.TarError, OSError, ValueError) as error:
        raise UserError(f"{url} cannot be read as a tar of audio: {error}") from error
    return (sample for sample in samples.values() if sample.audio)


def _labels(file: IO[bytes] | None, label_field: str) -> tuple[str, ...]:
    about = json.load(file) if file else {}
    return as_labels(about.get(label_field) if isinstance(about, dict) else None)

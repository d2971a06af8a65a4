"""Sources and outputs of the stage as dataclasses; a field's text is its --help."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from audio_barlow_twins.shards.base.place import place
from audio_barlow_twins.shards.decode.ffmpeg import DecodeLimits
from audio_barlow_twins.shards.stored.front_end import FrontEnd

from .sources.audioset import PAGE, audioset_clips
from .sources.clip import Clip
from .sources.demo.corpus import demo_clips
from .sources.folder import folder_clips
from .sources.fsd50k import Split, fsd50k_clips
from .sources.segment import named_by_segment
from .sources.strong import with_events
from .sources.tables import table_clips
from .sources.tars import archive_clips
from .stage.stage import Job
from .video.download import Downloading
from .video.fetcher import VideoOptions
from .video.governor import Pace
from .video.identity import read_identities

Names = Literal["plain", "audioset"]
"""How the files of a source are named."""


@dataclass(frozen=True, kw_only=True)
class FolderSource:
    """Ingest a folder of audio files, one clip a file."""

    root: Annotated[Path, tyro.conf.Positional]
    """The folder; it is searched with everything below it."""
    labels: Path | None = None
    """CSV with the columns `path` (relative to the folder) and `labels` (separated by `;`)."""
    names: Names = "plain"
    """audioset: files are named YTID, YTID_start (s) or YTID_start_end (s or ms)."""

    def clips(self) -> Sequence[Clip]:
        """List the clips."""
        return _named(self.names, folder_clips(self.root, self.labels))


@dataclass(frozen=True, kw_only=True)
class Fsd50kSource:
    """Ingest a split of FSD50K from the folder where its archives were unpacked."""

    root: Annotated[Path, tyro.conf.Positional]
    """Holds FSD50K.dev_audio, FSD50K.eval_audio and FSD50K.ground_truth."""
    split: Split = "dev"
    """dev (train and val together: what the paper's ablations train on), train, val or eval."""

    def clips(self) -> Sequence[Clip]:
        """List the clips."""
        return fsd50k_clips(self.root, self.split)


@dataclass(frozen=True, kw_only=True)
class WebdatasetSource:
    """Ingest WebDataset tars of audio files, for instance a mirror of AudioSet."""

    urls: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Tars, folders of tars or patterns; paths, or URLs that fsspec opens."""
    label_field: str = "labels"
    """Entry of a sample's JSON that holds its label or a list of them."""
    labels: Path | None = None
    """CSV with the columns `path` (a sample's name in its tar) and `labels` (separated by `;`)."""
    names: Names = "plain"
    """audioset: samples are named YTID, YTID_start (s) or YTID_start_end (s or ms)."""

    def clips(self) -> Sequence[Clip]:
        """List the clips."""
        return _named(self.names, archive_clips(self.urls, self.label_field, self.labels))


@dataclass(frozen=True, kw_only=True)
class ParquetSource:
    """Ingest Parquet tables of audio as Hugging Face stores them (`audio` with bytes and path)."""

    urls: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Tables, folders of tables or patterns; paths, or URLs that fsspec opens."""
    key_field: str = ""
    """Column that names a row, such as video_id; default: the name of the audio file."""
    label_field: str = ""
    """Column that holds a label or a list of them, such as human_labels; default: none."""
    names: Names = "plain"
    """audioset: rows are named YTID, YTID_start (s) or YTID_start_end (s or ms)."""

    def clips(self) -> Sequence[Clip]:
        """List the clips."""
        return _named(self.names, table_clips(self.urls, self.key_field, self.label_field))


@dataclass(frozen=True, kw_only=True)
class AudiosetSource:
    """Ingest AudioSet from YouTube by its official lists, with yt-dlp.

    YouTube's terms are yours to weigh; nothing is circumvented unless you pass a way to do so.
    """

    lists: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """balanced_train_segments.csv, unbalanced_train_segments.csv, eval_segments.csv, or several."""
    class_labels: Path | None = None
    """class_labels_indices.csv: labels become display names instead of mids."""
    strong: tuple[Path, ...] = ()
    """TSVs of strong labels: clips that they list get events with onset and offset."""
    page: str = PAGE
    """Address of a video without its id."""

    def clips(self) -> Sequence[Clip]:
        """List the clips."""
        clips = audioset_clips(self.lists, self.class_labels, self.page)
        return with_events(clips, self.strong, clips.names) if self.strong else clips


@dataclass(frozen=True, kw_only=True)
class DemoSource:
    """Ingest the demo corpus that comes with the project: six minutes of free sounds."""

    def clips(self) -> Sequence[Clip]:
        """List the clips."""
        return demo_clips()


@dataclass(frozen=True, kw_only=True)
class Videos:
    """How videos are got; without effect on sources that have none."""

    cookies: tuple[Path, ...] = ()
    """Netscape cookie files, an identity each; as many as proxies makes pairs."""
    proxy: tuple[str, ...] = ()
    """Proxy URLs, an identity each."""
    one_address: bool = False
    """All machines of the cluster reach the site from one address, and count as one identity."""
    extractor_args: tuple[str, ...] = ()
    """Passed to yt-dlp, such as "youtube:player_client=web"."""
    pace: Pace = field(default_factory=Pace)
    """What each identity may ask for."""
    canary: str = "jNQXAC9IVRw"
    """Id of a short video that is known to be good; it tells a bad clip from a refused identity."""
    max_mb: float = 512.0
    """Largest recording that is downloaded as a whole, MB."""
    section_mb: float = 32.0
    """Recordings larger than this are read in sections, MB."""
    timeout_s: float = 300.0
    """Longest time for one video, s; what hangs is killed."""
    tries: int = 4
    """How often a clip is tried when the network fails."""
    backoff_s: float = 2.0
    """Pause before the second try, s; it doubles with every further one."""

    def downloading(self, page: str) -> Downloading:
        """Return what the workers need to know."""
        options = VideoOptions(
            max_bytes=round(self.max_mb * 1e6),
            section_above=round(self.section_mb * 1e6),
            timeout_s=self.timeout_s,
            extractor_args=self.extractor_args,
        )
        canary = self.canary if "://" in self.canary else f"{page}{self.canary}"
        return Downloading(
            options=options, canary=canary, tries=self.tries, backoff_s=self.backoff_s
        )


@dataclass(frozen=True, kw_only=True)
class Output:
    """What every source shares."""

    out: str
    """Folder or URL (s3://…) for the results: `OUT/wave` and `OUT/logmel`, a shard set each."""
    shard_clips: int = 1024
    """Clips a shard; 1024 log-mel clips of 10 s are 131 MB."""
    wave: bool = True
    """Keep the 16 kHz waveforms too (0.32 MB per 10 s), beside the log-mel."""
    fill_from: tuple[str, ...] = ()
    """Further sources for clips that this one lacks, each as it would be typed, in quotes:
    "folder /data/audioset --names audioset"."""
    max_s: float = 1200.0
    """Longest clip, s; a longer file is recorded as bad_audio."""
    slots: int | None = None
    """CPUs to use on this machine; default: all. A cluster (RAY_ADDRESS) has its own number."""
    at_once: int | None = None
    """Clips that a slot gets at the same time; default: 8 videos, 4 parts of URLs, 1 local file."""
    front_end: FrontEnd = field(default_factory=FrontEnd)
    """The log-mel; another one makes another, incompatible set."""
    videos: tyro.conf.OmitArgPrefixes[Videos] = field(default_factory=Videos)
    """How videos are got."""

    def job(self, page: str | None, remote: bool) -> Job:
        """Return what every shard of the run has in common.

        Args:
            page: address of a video without its id; None if no source has videos.
            remote: whether a source is read through a URL.
        """
        out = place(self.out)
        videos = self.videos
        return Job(
            out=out if "://" in self.out else out.absolute(),
            front_end=self.front_end,
            limits=DecodeLimits(min_samples=self.front_end.least_samples, max_s=self.max_s),
            keep_wave=self.wave,
            at_once=self.at_once or (8 if page else 4 if remote else 1),
            downloading=videos.downloading(page) if page else None,
            identities=read_identities(videos.proxy, videos.cookies, videos.one_address),
            pace=videos.pace,
        )


def _named(names: Names, clips: list[Clip]) -> list[Clip]:
    return named_by_segment(clips) if names == "audioset" else clips

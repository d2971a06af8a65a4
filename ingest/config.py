"""The command line of the stage: one dataclass a source; a field's text is its --help."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from ingest.archive import archive_clips
from ingest.clip import Clip
from ingest.decode import DecodeLimits
from ingest.demo.corpus import TASK, demo_clips, demo_folds
from ingest.folder import folder_clips
from ingest.fsd50k import Split, fsd50k_clips
from ingest.hear_task import write_task
from ingest.ledger import count_by_reason, differences
from ingest.stage import Job, ingest
from ingest.table import table_clips
from shards.cli import UserError, say
from shards.logmel import FrontEnd
from shards.shardset import open_shards


@dataclass(frozen=True, kw_only=True)
class Output:
    """What every source shares."""

    out: Path
    """Folder for the results: `OUT/wave` and `OUT/logmel`, a shard set each."""
    shard_clips: int = 1024
    """Clips a shard; 1024 log-mel clips of 10 s are 131 MB."""
    wave: bool = True
    """Keep the 16 kHz waveforms too (0.32 MB per 10 s), beside the log-mel."""
    max_s: float = 1200.0
    """Longest clip, s; a longer file is recorded as bad_audio."""
    slots: int | None = None
    """CPUs to use on this machine; default: all. A cluster (RAY_ADDRESS) has its own number."""
    front_end: FrontEnd = field(default_factory=FrontEnd)
    """The log-mel; another one makes another, incompatible set."""

    def make(self, source: str, clips: list[Clip]) -> None:
        """Run the stage and say what came of it."""
        limits = DecodeLimits(min_samples=self.front_end.least_samples, max_s=self.max_s)
        job = Job(
            source=source,
            out=self.out.absolute(),
            front_end=self.front_end,
            limits=limits,
            keep_wave=self.wave,
        )
        outcomes = ingest(job, clips, self.shard_clips, self.slots)
        if failed := sum(n for outcome, n in outcomes.items() if outcome != "ok"):
            say(f"{failed} clips failed; `python -m shards stats {self.out}/logmel` says why")
        logmel = open_shards(self.out / "logmel")
        statistics = logmel.statistics
        say(
            f"{self.out}/logmel: {len(logmel)} clips, {logmel.hours:.2f} h, log-mel mean "
            f"{statistics.mean:.4f}, std {statistics.std:.4f}, fingerprint {logmel.fingerprint}"
        )


@dataclass(frozen=True, kw_only=True)
class Folder(Output):
    """Ingest a folder of audio files, one clip a file."""

    root: Annotated[Path, tyro.conf.Positional]
    """The folder; it is searched with everything below it."""
    labels: Path | None = None
    """CSV with the columns `path` (relative to the folder) and `labels` (separated by `;`)."""

    def run(self) -> None:
        """Ingest it."""
        self.make("folder", folder_clips(self.root, self.labels))
        say(f"next: make train SHARDS={self.out}/logmel")


@dataclass(frozen=True, kw_only=True)
class Fsd50k(Output):
    """Ingest a split of FSD50K from the folder where its archives were unpacked."""

    root: Annotated[Path, tyro.conf.Positional]
    """Holds FSD50K.dev_audio, FSD50K.eval_audio and FSD50K.ground_truth."""
    split: Split = "dev"
    """dev (train and val together: what the paper's ablations train on), train, val or eval."""

    def run(self) -> None:
        """Ingest it."""
        self.make(f"fsd50k {self.split}", fsd50k_clips(self.root, self.split))
        say(f"next: make train SHARDS={self.out}/logmel")


@dataclass(frozen=True, kw_only=True)
class Webdataset(Output):
    """Ingest WebDataset tars of audio files, for instance a mirror of AudioSet."""

    urls: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Tars, folders of tars or patterns; paths, or URLs that fsspec opens."""
    label_field: str = "labels"
    """Entry of a sample's JSON that holds its label or a list of them."""
    labels: Path | None = None
    """CSV with the columns `path` (a sample's name in its tar) and `labels` (separated by `;`)."""

    def run(self) -> None:
        """Ingest them."""
        self.make("webdataset", archive_clips(self.urls, self.label_field, self.labels))
        say(f"next: make train SHARDS={self.out}/logmel")


@dataclass(frozen=True, kw_only=True)
class Parquet(Output):
    """Ingest Parquet tables of audio as Hugging Face stores them (`audio` with bytes and path)."""

    urls: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Tables, folders of tables or patterns; paths, or URLs that fsspec opens."""
    key_field: str = ""
    """Column that names a row, such as video_id; default: the name of the audio file."""
    label_field: str = ""
    """Column that holds a label or a list of them, such as human_labels; default: none."""

    def run(self) -> None:
        """Ingest them."""
        self.make("parquet", table_clips(self.urls, self.key_field, self.label_field))
        say(f"next: make train SHARDS={self.out}/logmel")


@dataclass(frozen=True, kw_only=True)
class Diff:
    """Say which clips two shard sets do not share, and why."""

    first: Annotated[Path, tyro.conf.Positional]
    """A shard set."""
    second: Annotated[Path, tyro.conf.Positional]
    """Another one."""
    examples: int = 5
    """Clips to show of each reason; 0 shows all."""

    def run(self) -> None:
        """Print the reasons, most frequent first, with examples."""
        found = list(differences(self.first, self.second))
        for (lacking, reason), n in count_by_reason(found).most_common():
            say(f"{n} clips are missing in {lacking}: {reason}")
            of_it = [d for d in found if (d.missing_in, d.reason) == (lacking, reason)]
            for each in of_it[: self.examples or None]:
                say(f"    {each.key}{': ' if each.message else ''}{each.message}")
        say(f"{len(found) or 'no'} differences")


@dataclass(frozen=True, kw_only=True)
class Demo(Output):
    """Ingest the demo corpus that comes with the project: six minutes of free sounds."""

    out: Path = Path("data/demo")
    """Folder for the results: `OUT/wave`, `OUT/logmel`, and the labelled task in `OUT/tasks`."""
    shard_clips: int = 32
    """Clips a shard."""

    def run(self) -> None:
        """Ingest it and write its labelled task."""
        if not self.wave:
            raise UserError("the demo's labelled task is cut from its waveforms: leave --wave on")
        self.make("demo", demo_clips())
        write_task(self.out / "wave", self.out / "tasks" / TASK, demo_folds())


def main() -> None:
    """Parse the command line and run the chosen source."""
    tyro.extras.subcommand_cli_from_dict(
        {
            "folder": Folder,
            "webdataset": Webdataset,
            "parquet": Parquet,
            "fsd50k": Fsd50k,
            "demo": Demo,
            "diff": Diff,
        },
        prog="python -m ingest",
        description="Audio in, shard sets out. Run it again to go on where it stopped.",
    ).run()

"""What `python -m eval hear` and `python -m eval embed` can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, subcommand

from shards.cli import UserError


@dataclass(frozen=True, kw_only=True)
class HearConfig:
    """Score a checkpoint on HEAR scene tasks, beside a random encoder and log-mel statistics."""

    checkpoint: Path
    """Checkpoint that `python -m train` wrote."""
    tasks_dir: Path
    """Folder of HEAR task folders, with clips at the checkpoint's sample rate."""
    task: tuple[str, ...] = ()
    """Names of the task folders to score; all scene tasks if left out."""
    out: Path | None = None
    """Where to write the scores as JSON; `scores.json` beside the checkpoint if left out."""
    device: str | None = None
    """Such as cpu or cuda:1; a GPU if there is one when left out."""

    @property
    def scores_file(self) -> Path:
        """Where the scores go."""
        return self.out or self.checkpoint.with_name("scores.json")

    def __post_init__(self) -> None:
        if self.scores_file.is_dir():
            raise UserError(f"--out {self.scores_file} is a folder; name a JSON file")


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """Write one embedding for each sound file to a Parquet table."""

    files: Positional[tuple[Path, ...]]
    """Sound files of any rate and length, or folders that are searched for them."""
    checkpoint: Path
    """Checkpoint that `python -m train` wrote."""
    out: Path = Path("embeddings.parquet")
    """Parquet file to write."""
    device: str | None = None
    """Such as cpu or cuda:1; a GPU if there is one when left out."""

    def __post_init__(self) -> None:
        if not self.files:
            raise UserError("no sound files were named; give files or folders")
        if self.out.is_dir():
            raise UserError(f"--out {self.out} is a folder; name a Parquet file")


Command = Annotated[HearConfig, subcommand("hear")] | Annotated[EmbedConfig, subcommand("embed")]

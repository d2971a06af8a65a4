"""What the commands of `python -m eval` can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg, subcommand

from model.encoders import ENCODERS
from shards.cli import UserError


@dataclass(frozen=True, kw_only=True)
class HearConfig:
    """Score a checkpoint on HEAR tasks, beside a random encoder and log-mel statistics."""

    checkpoint: Path
    """Checkpoint that `python -m train` wrote."""
    tasks_dir: Path
    """Folder of HEAR task folders, with clips at the checkpoint's sample rate."""
    task: tuple[str, ...] = ()
    """Names of the task folders to score; all tasks if left out."""
    out: Path | None = None
    """Where to write the scores as JSON; `scores.json` beside the checkpoint if left out."""
    protocol: Literal["heareval", "fast", "robust"] = "heareval"
    """heareval's own numbers; the same in bfloat16; or batches shuffled, means of three seeds."""
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
    skip_bad: bool = False
    """List files that cannot be used in OUT's name with .failed.jsonl, instead of stopping."""
    device: str | None = None
    """Such as cpu or cuda:1; a GPU if there is one when left out."""

    def __post_init__(self) -> None:
        if not self.files:
            raise UserError("no sound files were named; give files or folders")
        if self.out.is_dir():
            raise UserError(f"--out {self.out} is a folder; name a Parquet file")

    @property
    def failed_file(self) -> Path:
        """Where files that cannot be used are listed."""
        return self.out.with_suffix(".failed.jsonl")


@dataclass(frozen=True, kw_only=True)
class SimilarConfig:
    """List the sounds whose embeddings are nearest to a clip's, by cosine."""

    clip: Positional[Path]
    """Sound file to look for."""
    collection: Annotated[Path, arg(name="in")]
    """Folder of sound files, or a Parquet file that `python -m eval embed` wrote."""
    checkpoint: Path
    """Checkpoint that `python -m train` wrote."""
    k: int = 10
    """How many sounds to list."""
    cache: Path | None = None
    """Parquet file that keeps embeddings; beside the checkpoint if left out."""
    html: Path | None = None
    """Also write a page with players."""
    device: str | None = None
    """Such as cpu or cuda:1; a GPU if there is one when left out."""

    @property
    def cache_file(self) -> Path:
        """Where embeddings are kept."""
        return self.cache or self.checkpoint.with_name(self.checkpoint.name + ".similar.parquet")

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UserError(f"--k is {self.k}; ask for at least one sound")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write an encoder and its front-end in a form that others can load."""

    checkpoint: Positional[Path]
    """Checkpoint that `python -m train` wrote."""
    format: Literal["torch-export", "onnx", "pretrained"]
    """A torch.export archive, an ONNX model, or a folder of safetensors and config.json."""
    out: Path | None = None
    """What to write; beside the checkpoint, named after it, if left out."""

    @property
    def target(self) -> Path:
        """What is written."""
        ending = {"torch-export": ".pt2", "onnx": ".onnx", "pretrained": ".pretrained"}
        return self.out or self.checkpoint.with_suffix(ending[self.format])

    def __post_init__(self) -> None:
        if self.format == "pretrained" and self.target.is_file():
            raise UserError(f"--out {self.target} is a file; name a folder")
        if self.format != "pretrained" and self.target.is_dir():
            raise UserError(f"--out {self.target} is a folder; name a file")


@dataclass(frozen=True, kw_only=True)
class ValidateConfig:
    """Check that a Python module keeps to the HEAR 2021 API; exit code 1 if it does not."""

    module: Positional[str]
    """Importable name of the module, such as eval.hear."""
    model: Annotated[str, arg(aliases=("--checkpoint",))] = ""
    """Weights, passed to the module's `load_model`; its default if left out."""
    options: tuple[str, ...] = ()
    """Further arguments of `load_model`, each NAME=VALUE; numbers and true, false, null as JSON."""
    device: str | None = None
    """Such as cpu or cuda:1; a GPU if there is one when left out."""


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Measure the embedding of sound files beside the encoder's bare forward on the same clips."""

    files: Positional[tuple[Path, ...]] = ()
    """Sound files, or folders that are searched for them; synthetic ones if left out."""
    checkpoint: Path | None = None
    """Checkpoint that `python -m train` wrote; random weights if left out."""
    encoder: str = "audiontt"
    """Which encoder to measure with random weights; `python -m model` lists them."""
    clips: int = 64
    """How many synthetic clips to write."""
    seconds: float = 10.0
    """Length of a synthetic clip, s."""
    rounds: int = 5
    """Both are timed this often, in turn; medians count."""
    device: str | None = None
    """Such as cpu or cuda:1; a GPU if there is one when left out."""

    def __post_init__(self) -> None:
        if min(self.clips, self.rounds) < 1 or not 0 < self.seconds <= 600:
            raise UserError("--clips and --rounds must be at least 1, --seconds in (0, 600]")
        if self.encoder not in ENCODERS:
            raise UserError(f"no encoder is called {self.encoder!r}; choose from `python -m model`")


Command = (
    Annotated[HearConfig, subcommand("hear")]
    | Annotated[EmbedConfig, subcommand("embed")]
    | Annotated[SimilarConfig, subcommand("similar")]
    | Annotated[ExportConfig, subcommand("export")]
    | Annotated[ValidateConfig, subcommand("validate")]
    | Annotated[BenchConfig, subcommand("bench")]
)

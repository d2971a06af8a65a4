"""What the commands of `abt eval` can be told."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg, subcommand

from audio_barlow_twins.model.encoders import ENCODERS
from audio_barlow_twins.shards.base.errors import UserError

from .sound.cache_folder import default_cache


@dataclass(frozen=True, kw_only=True)
class HearConfig:
    """Score a HEAR model on HEAR tasks, beside baselines and what others have published.

    What is in the report's folder already is kept: a command that was interrupted goes on, and one
    for another model adds a row. Tasks and models run as Ray tasks, here or on the cluster of
    RAY_ADDRESS, whose nodes must see all folders at the same path.
    """

    tasks_dir: Path
    """Folder of HEAR task folders; `abt eval tasks` looks through it."""
    checkpoint: Path | None = None
    """Weights for the module: for eval.hear a checkpoint that `abt train` wrote."""
    module: str = "audio_barlow_twins.eval.hear"
    """Importable module with the HEAR API, such as byol_a_hear."""
    options: tuple[str, ...] = ()
    """Further arguments of its `load_model`, each NAME=VALUE; a VALUE may be JSON, as true."""
    name: str = ""
    """Row of the report; checkpoint, or the module's name, if left out."""
    baselines: tuple[str, ...] | None = None
    """Any of random, log-mel, crepe, byol-a=FILE, wav2vec2=FOLDER; if left out, the first two for a
    checkpoint of ours, none for another module."""
    task: tuple[str, ...] = ()
    """Names of the task folders to score; all tasks if left out."""
    out: Path | None = None
    """Folder for scores and report; `hear` beside the checkpoint, or here, if left out."""
    protocol: Literal["heareval", "fast", "robust"] = "heareval"
    """heareval's own numbers; the same in bfloat16; or batches shuffled, means of three seeds."""
    cache: Path = field(default_factory=default_cache)
    """Folder for resampled clips and embeddings."""
    slots: int | None = None
    """CPUs of a local Ray; all of this machine if left out."""
    cpus: int = 1
    """Threads that a job computes with; more than one if there are fewer jobs than cores."""
    gpus: float = 0.25
    """GPUs that a job takes, if there are any: 0.25 lets four jobs share one."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Auto takes GPUs if there are any."""

    @property
    def is_ours(self) -> bool:
        """Whether the model is a checkpoint of ours."""
        return self.module == "audio_barlow_twins.eval.hear"

    @property
    def row(self) -> str:
        """What the report calls the model."""
        return self.name or ("checkpoint" if self.is_ours else self.module)

    @property
    def rows_beside(self) -> tuple[str, ...]:
        """The baselines."""
        usual = ("random", "log-mel") if self.is_ours else ()
        return usual if self.baselines is None else self.baselines

    @property
    def folder(self) -> Path:
        """Where scores and report go."""
        return self.out or (self.checkpoint.parent if self.checkpoint else Path()) / "hear"

    def __post_init__(self) -> None:
        if self.folder.is_file():
            raise UserError(f"--out {self.folder} is a file; name a folder")
        if self.is_ours and self.checkpoint is None:
            raise UserError(
                "no checkpoint was named; pass --checkpoint FILE, or --module for another model"
            )
        if self.cpus < 1 or not 0 < self.gpus <= 1:
            raise UserError("--cpus must be at least 1, --gpus in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class TasksConfig:
    """List and check HEAR task folders, and say how to get missing ones; exit code 1 if one is bad.

    Metadata, vocabulary, labels and sound files are looked through to the end.
    """

    tasks_dir: Path
    """Folder of HEAR task folders."""
    audio: bool = False
    """Read every sound file to its end, instead of its header."""
    most: int = 10
    """How many problems of a task to print; the others are counted."""

    def __post_init__(self) -> None:
        if self.most < 0:
            raise UserError(f"--most is {self.most}; give 0 or more problems to print")


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """Write one embedding for each sound file to a Parquet table."""

    files: Positional[tuple[Path, ...]]
    """Sound files of any rate and length, or folders that are searched for them."""
    checkpoint: Path
    """Checkpoint that `abt train` wrote."""
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
    """Folder of sound files, or a Parquet file that `abt eval embed` wrote."""
    checkpoint: Path
    """Checkpoint that `abt train` wrote."""
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
    """Checkpoint that `abt train` wrote."""
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
    """Checkpoint that `abt train` wrote; random weights if left out."""
    encoder: str = "audiontt"
    """Which encoder to measure with random weights; `abt model` lists them."""
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
            raise UserError(f"no encoder is called {self.encoder!r}; choose from `abt model`")


Command = (
    Annotated[HearConfig, subcommand("hear")]
    | Annotated[TasksConfig, subcommand("tasks")]
    | Annotated[EmbedConfig, subcommand("embed")]
    | Annotated[SimilarConfig, subcommand("similar")]
    | Annotated[ExportConfig, subcommand("export")]
    | Annotated[ValidateConfig, subcommand("validate")]
    | Annotated[BenchConfig, subcommand("bench")]
)

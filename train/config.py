"""What a training run is; a field's text is its --help. The run folder keeps it as config.json."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from audio_barlow_twins.model.encoders import encoder_options
from audio_barlow_twins.shards.base.cli import arg
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.read.remote.folder import CacheOptions
from audio_barlow_twins.shards.stored.front_end import FrontEnd

from .views.base import Chain, LogmelView, View, WaveView
from .views.registry import PAPER, default_views, make_chain, view_names


def _listing(kind: type[View]) -> Any:
    """Let `--help` list the views of a kind, among them those that `abt --import` has brought."""
    return arg(metavar=f"[{{{','.join(view_names(kind))}}} [...]]")


ViewNames = Annotated[tuple[str, ...], _listing(View)]
WaveNames = Annotated[tuple[str, ...], _listing(WaveView)]
LogmelNames = Annotated[tuple[str, ...], _listing(LogmelView)]
_LEAST = {
    "batch": 2, "projector_hidden": 1, "projector_out": 1, "crop_frames": 1, "reader_ahead": 1,
    "log_every": 1, "workers": 1, "block_shards": 0, "projector_layers": 0, "restarts": 0,
}  # fmt: skip
"""What a setting must be at least."""


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """As the paper trains AudioNTT; learning rates are for a batch of 128 and scale with it."""

    kind: Literal["lars", "adamw"] = "lars"
    """LARS for convolutions, AdamW for transformers, as in the paper."""
    lr_weights: float = 0.4
    """Learning rate of weights at batch 128."""
    lr_biases: float = 0.0048
    """Learning rate of biases and norms at batch 128."""
    momentum: float = 0.9
    """LARS: share of the last step that is kept."""
    trust: float = 0.001
    """LARS: trust coefficient, the length of an adapted step relative to its weight."""
    weight_decay: float = 1e-5
    """Of weights alone. LARS: added to the gradient, times the weight. AdamW: part of a weight that
    goes in each step, times the learning rate."""
    warmup_epochs: float = 1.0
    """Length of the linear warm-up; a cosine to 0 follows."""

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_epochs < math.inf:
            raise UserError(f"warmup_epochs is {self.warmup_epochs}; choose 0 or more")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Pre-train an encoder with Audio Barlow Twins."""

    shards: str = "data/demo/logmel"
    """Shard set to train on: a folder, or a URL such as s3://bucket/set. Of waves the log-mel is
    made on the device, after the augmentations of waveforms."""
    block_shards: int = 0
    """Shards whose clips are mixed with each other; 0: all of the set. A set behind a URL that the
    cache cannot hold needs blocks of which it holds two. Another number is another order."""
    cache: CacheOptions = field(default_factory=CacheOptions)
    """Where the shards behind a URL are kept."""
    front_end: FrontEnd = field(default_factory=FrontEnd)
    """The log-mel that the shards must hold, or that is made of waves; a set of another one is
    refused."""
    statistics: str = ""
    """Log-mel shard set whose mean and standard deviation normalise; default: the set's own, for
    waves those of a few thousand of its crops."""
    run: Path = Path("runs/demo")
    """Run folder: config.json, metrics.jsonl, TensorBoard events, checkpoints, loss.png."""
    resume: bool = False
    """Go on with the run in the run folder if there is one."""
    encoder: str = "audiontt"
    """Network; `abt model` lists them."""
    encoder_options: tuple[str, ...] = ()
    """What of the network can be set, as KEY=VALUE; `abt model NAME` lists it."""
    projector_hidden: int = 8192
    """Width of the projector's hidden layers."""
    projector_layers: int = 1
    """Number of the projector's hidden layers."""
    projector_out: int = 1024
    """Size of the projector's output, the D of the D x D cross-correlation."""
    lambda_: Annotated[float, arg(name="lambda")] = 0.005
    """Weight of the off-diagonal term of the loss."""
    crop_frames: int = 96
    """Length of a crop, frames of 10 ms."""
    batch: int = 128
    """Clips a step."""
    epochs: float = 100.0
    """Passes over the shard set."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    """The optimiser and its schedule."""
    views: ViewNames = PAPER
    """The augmentations, in the order in which they are applied."""
    ranges: Chain = field(default_factory=default_views)
    """How strong the augmentations are, by name; those that are left out have their defaults."""
    normalise: Literal["set", "ppn"] = "set"
    """set: log-mel by the shard set's mean and standard deviation. ppn: by running statistics, and
    after the augmentations each batch to mean 0 and variance 1, as BYOL-A does."""
    seed: int = 0
    """Of the weights, the order of the clips, the crops and the views."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU if there is one."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """bf16: encoder and projector under bfloat16 autocast, the loss stays float32. auto: bf16
    where the device computes in it (recent GPUs, CPUs with AVX-512 BF16 or AMX), else float32."""
    compile: Literal["no", "default", "reduce-overhead", "max-autotune"] = "no"
    """Mode of torch.compile for views and network; reduce-overhead replays the network's kernels as
    CUDA graphs, which pays at small batches. Takes a minute or more at the start."""
    reader_ahead: int = 4
    """Batches that are read, or announced to the disk, ahead of their use. Storage of high latency
    needs more: the clips that it delivers in the time of one answer, in batches."""
    log_every: int = 10
    """Steps between two lines of metrics.jsonl; each look (`look_epochs`) adds a line. Losses are
    copied from the device only when a line is written."""
    look_epochs: float = 0.0
    """Epochs from one look to the next at what was learnt so far: effective rank of the embeddings,
    correlation.png, probe. 0: twelve looks over the run."""
    probe_tasks: tuple[Path, ...] = ()
    """HEAR task folders, of scene tasks, on which every look scores the encoder: `probe_TASK` in
    metrics.jsonl and the curve. The scores are those of the test clips."""
    probe: Literal["knn", "linear"] = "knn"
    """How they are scored. knn: votes of the nearest clips, nothing is trained. linear: one layer
    is trained on the embeddings."""
    checkpoint_every_s: float = 300.0
    """Seconds between checkpoints; one more is written at the end and on SIGTERM."""
    workers: int = 1
    """Processes that share every batch, one a GPU: here, or on the Ray cluster of RAY_ADDRESS,
    whose nodes must see run folder and local shards at the same paths. Started by torchrun, a run
    takes its processes from there."""
    restarts: int = 3
    """Times that all workers are started again from the last checkpoint after one was lost."""
    max_stall: float = 1.0
    """Fail if more than this share of the time goes by waiting for data, such as 0.05."""
    preflight: bool = True
    """Measure reader and network before the first step and say which of them will limit."""

    def __post_init__(self) -> None:
        try:
            encoder_options(self.encoder, self.encoder_options)
        except ValueError as error:
            raise UserError(str(error)) from error
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}; choose {least} or more")
        if self.workers > self.batch:
            raise UserError(f"workers is {self.workers}; choose {self.batch} or fewer, one a clip")
        if not 0 < self.epochs < math.inf:
            raise UserError(f"epochs is {self.epochs}; choose a number above 0")
        if not 0 <= self.look_epochs < math.inf:
            raise UserError(f"look_epochs is {self.look_epochs}; choose 0 (twelve a run) or more")
        if not 0 < self.max_stall <= 1:
            raise UserError(f"max_stall is {self.max_stall}; choose a share from (0, 1]")
        # All views: a process that gets the config by pickle then imports the modules of all.
        object.__setattr__(self, "ranges", default_views() | self.ranges)
        make_chain(self.views, self.ranges)

    @property
    def chain(self) -> Chain:
        """The augmentations with their options, in the order in which they are applied."""
        return make_chain(self.views, self.ranges)

"""The config of a training run; a field's text is its --help. Stored as config.json in the run."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from audio_barlow_twins.model.encoders import encoder_options
from audio_barlow_twins.shards.base.cli import arg
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.read.remote.folder import CacheOptions
from audio_barlow_twins.shards.stored.front_end import FrontEnd, LogMelBackend

from .views.base import Chain, LogmelView, View, WaveView
from .views.registry import PAPER, default_views, make_chain, view_names


def _listing(kind: type[View]) -> Any:
    return arg(metavar=f"[{{{','.join(view_names(kind))}}} [...]]")


ViewNames = Annotated[tuple[str, ...], _listing(View)]
WaveNames = Annotated[tuple[str, ...], _listing(WaveView)]
LogmelNames = Annotated[tuple[str, ...], _listing(LogmelView)]
StepKind = Literal["auto", "plain", "compiled", "graph"]
_LEAST = {
    "batch": 2, "projector_hidden": 1, "projector_out": 1, "crop_frames": 1, "reader_ahead": 1,
    "log_every": 1, "workers": 1, "block_shards": 0, "projector_layers": 0, "restarts": 0,
}  # fmt: skip
"""The smallest value that each setting accepts."""


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """The optimiser, by default as the paper trains AudioNTT; learning rates scale with batch."""

    kind: Literal["lars", "adamw"] = "lars"
    """LARS for convolutions, AdamW for transformers, as in the paper."""
    lr_weights: float = 0.4
    """Learning rate of weights at batch 128."""
    lr_biases: float = 0.0048
    """Learning rate of biases and norms at batch 128."""
    momentum: float = 0.9
    """LARS: share of the last step that is added to the next."""
    trust: float = 0.001
    """LARS: trust coefficient, the length of an adapted step relative to its weight."""
    weight_decay: float = 1e-5
    """Only for weights. LARS adds this times the weight to the gradient; AdamW takes this times the
    learning rate times the weight off the weight in each step."""
    warmup_epochs: float = 1.0
    """Length of the linear warm-up, after which the rate falls as a cosine."""
    final_rate: float = 0.0
    """Share of the peak rate at which the cosine is cut off by the end of the run; 0, as in the
    authors' report, is all of it. Their code stretches the cosine to 1.25 times the run, which ends
    at 0.098."""

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_epochs < math.inf:
            raise UserError(f"warmup_epochs is {self.warmup_epochs}; choose 0 or more")
        if not 0 <= self.final_rate <= 1:
            raise UserError(f"final_rate is {self.final_rate}; choose a share from [0, 1]")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Pre-train an encoder with Audio Barlow Twins."""

    shards: str = "data/demo/logmel"
    """Shard set to train on: a folder, or a URL such as s3://bucket/set. For a wave set, log-mel is
    computed on the device, after the augmentations of waveforms."""
    block_shards: int = 0
    """Shards whose clips are shuffled together; 0: all of the set. If the cache is smaller than a
    remote set, it must hold two such blocks. Another number gives another order of the clips."""
    cache: CacheOptions = field(default_factory=CacheOptions)
    """Where remote shards are kept."""
    front_end: FrontEnd = field(default_factory=FrontEnd)
    """Log-mel parameters: what log-mel shards must have been made with, or how to make log-mel from
    wave shards."""
    statistics: str = ""
    """Log-mel shard set whose mean and standard deviation normalise the input; default: the set's
    own, or for a wave set those of a few thousand of its crops."""
    run: Path = Path("runs/demo")
    """Run folder: config.json, metrics.jsonl, TensorBoard events, checkpoints, loss.png."""
    resume: bool = False
    """Resume the run in the run folder if there is one."""
    encoder: str = "audiontt"
    """Network; `abt model` lists them."""
    encoder_options: tuple[str, ...] = ()
    """Options of the network, as KEY=VALUE; `abt model NAME` lists them."""
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
    """Clips per step."""
    epochs: float = 100.0
    """Passes over the shard set."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    """The optimiser and its schedule."""
    views: ViewNames = PAPER
    """The augmentations, in the order in which they are applied."""
    ranges: Chain = field(default_factory=default_views)
    """How strong the augmentations are, by name; default: those of each augmentation."""
    normalise: Literal["set", "ppn", "ppn-per-view"] = "set"
    """set: normalise log-mel by the shard set's mean and standard deviation, as the paper does.
    ppn: by running statistics, and after the augmentations both views of a batch together to mean 0
    and variance 1, as BYOL-A does. ppn-per-view: the same with each view by itself, as the paper's
    authors do in their ablation with PPN."""
    seed: int = 0
    """For the weights, the order of the clips, the crops and the views."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto: a GPU if there is one."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """bf16: encoder and projector under bfloat16 autocast, the loss in float32. auto: bf16 where
    the device supports it (recent GPUs, CPUs with AVX-512 BF16 or AMX), else float32."""
    log_mel: LogMelBackend = "auto"
    """How log-mel is made of waveforms. nnaudio: by float32 convolutions. fft: by a Fourier
    transform in float64, which a GPU for consumers computes slowly. Both give the same numbers but
    for nnAudio's rounding. auto: nnaudio on a GPU, fft on the CPU."""
    step: StepKind = "auto"
    """plain: launch the kernels of a step one by one. compiled: let torch.compile write those of
    views and network, which delays the start by a minute or more. graph: record a step once and
    replay it as one CUDA graph. auto: graph where one process has a GPU, else plain."""
    deterministic: bool = False
    """On a GPU, take kernels that give the same bits every time, so that a resumed run ends as the
    straight one would have; it is slower, and torch warns of kernels that have no such twin. On a
    CPU this is so anyway."""
    reader_ahead: int | Literal["auto"] = "auto"
    """Batches to prefetch. Storage of high latency needs more: as many as are used up in the time
    that one read takes. auto: the preflight doubles it, from 4, until the rate stops growing."""
    reader_unit: Literal["auto", "crops", "shards"] = "auto"
    """What is prefetched from a local set. crops: each crop. shards: the whole shards of the next
    block (`block_shards`), in order, for disks and networks that are slow at random; memory must
    hold two blocks. auto: the preflight takes shards if clips come more quickly so."""
    log_every: int = 10
    """Steps between two lines of metrics.jsonl; each evaluation (`look_epochs`) adds one. Losses
    are copied from the device only when a line is written."""
    look_epochs: float = 0.0
    """Epochs between two evaluations of the encoder: effective rank of the embeddings,
    correlation.png, probe. 0: twelve evaluations over the run."""
    probe_tasks: tuple[Path, ...] = ()
    """HEAR task folders (scene tasks) on whose test clips every evaluation scores the encoder:
    `probe_TASK` in metrics.jsonl and loss.png."""
    probe: Literal["knn", "linear"] = "knn"
    """How the tasks are scored. knn: votes of the nearest clips, without training. linear: one
    layer trained on the embeddings."""
    checkpoint_every_s: float = 300.0
    """Seconds between checkpoints; one is also written at the end and on SIGTERM."""
    workers: int = 1
    """Processes that share every batch, one per GPU: on this machine, or on the Ray cluster of
    RAY_ADDRESS, whose nodes must see the run folder and local shards at the same paths. Under
    torchrun the processes are torchrun's."""
    restarts: int = 3
    """How often all workers may be restarted from the last checkpoint after one was lost."""
    max_stall: float = 1.0
    """Fail if waiting for data takes more than this share of the time, such as 0.05."""
    preflight: bool = True
    """Measure reader and network before the first step and log which will limit the speed."""

    def __post_init__(self) -> None:
        try:
            encoder_options(self.encoder, self.encoder_options)
        except ValueError as error:
            raise UserError(str(error)) from error
        for name, least in _LEAST.items():
            if getattr(self, name) != "auto" and getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}; choose {least} or more")
        if self.workers > self.batch:
            raise UserError(f"workers is {self.workers}; choose at most {self.batch}, the batch")
        if not 0 < self.epochs < math.inf:
            raise UserError(f"epochs is {self.epochs}; choose a number above 0")
        if not 0 <= self.look_epochs < math.inf:
            raise UserError(f"look_epochs is {self.look_epochs}; choose 0 (twelve a run) or more")
        if not 0 < self.max_stall <= 1:
            raise UserError(f"max_stall is {self.max_stall}; choose a share from (0, 1]")
        # All views, so that a process that unpickles the config imports the modules of all.
        object.__setattr__(self, "ranges", default_views() | self.ranges)
        make_chain(self.views, self.ranges)

    @property
    def chain(self) -> Chain:
        """The augmentations with their options, in the order in which they are applied."""
        return make_chain(self.views, self.ranges)

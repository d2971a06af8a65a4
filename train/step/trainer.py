"""The training step, on one process or one of many."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from audio_barlow_twins.model.barlow_twins import BarlowTwins
from audio_barlow_twins.model.checkpoint import Checkpoint
from audio_barlow_twins.model.encoders import Size, build_encoder
from audio_barlow_twins.shards.base.device import exact_products, has_bf16, keep_freed_memory
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.read.reader import LEAST_AHEAD, CropReader
from audio_barlow_twins.shards.stored.shardset import ShardSet

from ..config import TrainConfig
from .clock import Clock
from .feed import HOLD, Inputs, feed
from .graph import GraphedStep
from .optimiser import load_optimiser_state, make_optimiser, optimiser_state, set_rate
from .ranks import Ranks, choose_device
from .schedule import warmup_cosine
from .setup import build_views, crop_length, encoder_sizes, logmel_statistics, step_kind
from .step import PlainStep, Step, StepResult
from .synced import synchronise

log = logging.getLogger(__name__)


class Trainer:
    """The state of a run: network, optimiser, views, step.

    Every process holds the same weights, optimiser state and mixup bank, and computes its rows of
    each batch. Except for rounding, the numbers do not depend on the number of processes.

    Args:
        ranks: this process among all; default: it trains alone.
        sizes: of the encoder in the checkpoint to restore, if there is one: an earlier version may
            have begun the run with other defaults.
    """

    def __init__(
        self,
        config: TrainConfig,
        shard_set: ShardSet,
        ranks: Ranks | None = None,
        sizes: Mapping[str, Size] | None = None,
    ):
        self.config, self.shard_set = config, shard_set
        self.ranks = ranks = ranks or Ranks(device=choose_device(config.device))
        self.device = ranks.device
        if self.device.type == "cpu":
            keep_freed_memory()
        self.bf16 = config.precision == "bf16" or (
            config.precision == "auto" and has_bf16(self.device)
        )
        self.sizes = encoder_sizes(config) | dict(sizes or {})
        self.kind = step_kind(config.step, ranks)
        self.network, self.model = self._networks()
        self.optimiser = make_optimiser(
            self.network, config.optimiser, config.batch, captured=self.kind == "graph"
        )
        self.statistics = ranks.from_first(lambda: logmel_statistics(config, shard_set))
        self.views = build_views(config, shard_set, self.statistics, ranks)
        self.reader = _reader(config, shard_set, ranks)
        self.steps_per_epoch = len(shard_set) / config.batch
        self.total_steps = max(1, int(config.epochs * self.steps_per_epoch))
        warmup = config.optimiser.warmup_epochs * self.steps_per_epoch
        self.warmup_steps = min(int(warmup), self.total_steps)
        self.step = 0
        self.latest: StepResult | None = None
        """Of the last step."""
        self.clock = Clock(self.device)
        self.run_step = self._make_step()

    def _networks(self) -> tuple[BarlowTwins, nn.Module]:
        """Return the network, and the module to call for gradients of the global batch."""
        config = self.config
        torch.manual_seed(config.seed)
        network = BarlowTwins(
            build_encoder(config.encoder, self.sizes),
            hidden=config.projector_hidden,
            out_features=config.projector_out,
            lambda_=config.lambda_,
            layers=config.projector_layers,
        ).to(self.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        synchronise(network, self.ranks, config.batch)
        if self.ranks.world == 1:
            return network, network
        model = DistributedDataParallel(network, gradient_as_bucket_view=True)
        model.broadcast_buffers = False  # statistics are the same in all processes anyway
        return network, model

    def _make_step(self) -> Step:
        """Return the step of the kind that the config asks for."""
        step = PlainStep(self.views, self.model, self.optimiser, self.bf16)
        if self.kind == "graph":
            return GraphedStep(step, self.device)
        if self.kind == "compiled":
            if self.ranks.world == 1:  # gathering is no part of a graph
                self.views.prepare()
                self.views.compile()
            step = replace(step, model=torch.compile(self.model))  # type: ignore[arg-type]
        return replace(step, mark=self.clock.mark)

    def take_step(self, inputs: Inputs) -> Tensor:
        """Train on one batch; return the loss and its two terms on the device, float32 [3]."""
        self.clock.mark("copy")
        final = self.config.optimiser.final_rate
        factor = warmup_cosine(self.step, self.total_steps, self.warmup_steps, final)
        set_rate(self.optimiser, factor)
        # Dropout depends on the step, so a resumed run drops what the interrupted one did.
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)
        with exact_products():
            self.latest = self.run_step(*inputs)
        if self.kind == "graph":
            self.clock.mark("whole step")
        self.step += 1
        return self.latest.losses

    @contextmanager
    def rewound(self) -> Iterator[None]:
        """Undo the steps that are taken inside; what they warmed up, compiled or captured stays."""
        before, step = self._tensors(), self.step
        kept = [x.detach().clone() for x in before]
        yield
        known = {id(x) for x in before}
        with torch.no_grad():
            for x, value in zip(before, kept, strict=True):
                x.copy_(value)
            for x in self._tensors():
                if id(x) not in known:  # of an optimiser, which begins with zeros
                    x.zero_()
        self.optimiser.zero_grad(set_to_none=True)
        self.step, self.latest = step, None
        self.clock.lap()

    def _tensors(self) -> list[Tensor]:
        """Return all tensors that a step changes, but for gradients."""
        of_optimiser = [
            value
            for values in self.optimiser.state.values()
            for value in values.values()
            if isinstance(value, Tensor)
        ]
        parts: list[nn.Module] = [self.network, self.views]
        return [
            *of_optimiser,
            *(x for part in parts for x in (*part.parameters(), *part.buffers())),
        ]

    def batches(self) -> Iterator[Inputs]:
        """Yield this process's rows of the remaining batches."""
        stream = self.reader.batches(self.step, self.total_steps - self.step)
        return feed(stream, self.device, self.clock, self.config.seed)

    def checkpoint(self) -> Checkpoint:
        mean, std = self.views.norm.statistics()
        return Checkpoint(
            encoder=self.config.encoder,
            sizes=self.sizes,
            state=self.network.encoder.state_dict(),
            front_end=self.config.front_end.parameters(),
            mean=mean,
            std=std,
            fingerprint=self.shard_set.fingerprint,
            step=self.step,
            training={
                "projector": self.network.projector.state_dict(),
                "optimiser": optimiser_state(self.optimiser),
                "norm": self.views.norm.state_dict(),
                "numerics": self.numerics,
            },
            log_mel=self.views.backend,
        )

    @property
    def numerics(self) -> dict[str, str]:
        """What the last bits of a step depend on, besides the config."""
        precision = "bf16" if self.bf16 else "float32"
        return {"device": self.device.type, "step": self.kind, "precision": precision}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from `checkpoint`; the mixup bank is filled from the shards again.

        Raises:
            UserError: the run was trained on another shard set.
        """
        if checkpoint.fingerprint != self.shard_set.fingerprint:
            raise UserError(
                f"the run was trained on shards with fingerprint {checkpoint.fingerprint}, "
                f"{self.shard_set.folder} has {self.shard_set.fingerprint}; give the same --shards"
            )
        if checkpoint.training is None:
            raise UserError("this checkpoint is an encoder alone; resume from checkpoint.pt")
        before = checkpoint.training.get("numerics")
        if before is None and self.ranks.first:
            log.warning(
                "%s: an earlier version took the steps until %d; dropout and some views draw other "
                "numbers from now on", self.config.run, checkpoint.step,
            )  # fmt: skip
        elif before and before != self.numerics and self.ranks.first:
            log.warning(
                "%s: steps were taken with %s until step %d, and are with %s from now on; the run "
                "ends near, but not at the bits of one that went straight on",
                self.config.run, _listed(before), checkpoint.step, _listed(self.numerics),
            )  # fmt: skip
        self.network.encoder.load_state_dict(checkpoint.state)
        self.network.projector.load_state_dict(checkpoint.training["projector"])
        load_optimiser_state(self.optimiser, checkpoint.training["optimiser"])
        self.views.norm.load_state_dict(checkpoint.training["norm"])
        self.step = checkpoint.step
        earlier = min(self.step, -(-self.views.memory // self.config.batch))
        stream = self.reader.batches(self.step - earlier, earlier)
        for inputs in feed(stream, self.device, self.clock, self.config.seed):
            self.views.remember(inputs.crops)


def _listed(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _reader(config: TrainConfig, shard_set: ShardSet, ranks: Ranks) -> CropReader:
    return CropReader(
        shard_set,
        frames=crop_length(config, shard_set),
        batch=config.batch,
        rows=ranks.rows(config.batch),
        seed=config.seed,
        ahead=LEAST_AHEAD if config.reader_ahead == "auto" else config.reader_ahead,
        hold=HOLD,
        block_shards=config.block_shards,
        unit="crops" if config.reader_unit == "auto" else config.reader_unit,
        cache=config.cache,
        run=str(config.run.absolute()),
        pin=ranks.device.type == "cuda",
    )

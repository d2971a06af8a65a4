"""The training step, on one process or one of many."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from audio_barlow_twins.model.barlow_twins import BarlowTwins, Outcome
from audio_barlow_twins.model.checkpoint import Checkpoint
from audio_barlow_twins.model.encoders import Size, build_encoder, encoder_options, option_kinds
from audio_barlow_twins.shards.base.device import has_bf16
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.read.reader import Batch, CropReader
from audio_barlow_twins.shards.stored.shardset import ShardSet

from ..config import TrainConfig
from ..views.draws import sample_keys
from ..views.pipeline import TwoViews
from .clock import Clock
from .feed import HOLD, feed
from .optimiser import make_optimiser, set_rate
from .ranks import Ranks, choose_device
from .schedule import warmup_cosine
from .setup import build_views, crop_length, logmel_statistics
from .synced import synchronise


class Trainer:
    """The state of a run: network, optimiser, views, step.

    Every process holds the same weights, optimiser state and mixup bank, and computes its rows of
    each batch. Except for rounding, the numbers do not depend on the number of processes.
    """

    def __init__(self, config: TrainConfig, shard_set: ShardSet, ranks: Ranks | None = None):
        self.config, self.shard_set = config, shard_set
        self.ranks = ranks = ranks or Ranks(device=choose_device(config.device))
        self.device = ranks.device
        self.bf16 = config.precision == "bf16" or (
            config.precision == "auto" and has_bf16(self.device)
        )
        self.sizes: dict[str, Size] = {
            "n_mels": config.front_end.n_mels,
            **encoder_options(config.encoder, config.encoder_options),
        }
        if "unit_frames" in option_kinds(config.encoder):  # a crop is one unit of a transformer
            self.sizes.setdefault("unit_frames", config.crop_frames)
        self.network, self.model = self._networks()
        if config.compile != "no":
            self.model = torch.compile(self.model, mode=config.compile)  # type: ignore[assignment]
        self.optimiser = make_optimiser(self.network, config.optimiser, config.batch)
        self.statistics = ranks.from_first(lambda: logmel_statistics(config, shard_set))
        self.views = self.make_views()
        self.reader = _reader(config, shard_set, ranks)
        self.steps_per_epoch = len(shard_set) / config.batch
        self.total_steps = max(1, int(config.epochs * self.steps_per_epoch))
        warmup = config.optimiser.warmup_epochs * self.steps_per_epoch
        self.warmup_steps = min(int(warmup), self.total_steps)
        self.step = 0
        self.latest: tuple[Tensor, Tensor] | None = None
        """Cross-correlation and this process's embeddings of the last step."""
        self.clock = Clock(self.device)

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

    def make_views(self) -> TwoViews:
        """Return the augmentations in their state before the first step."""
        views = build_views(self.config, self.shard_set, self.statistics, self.ranks)
        if self.config.compile != "no" and self.ranks.world == 1:  # gathering is no part of a graph
            views.compile()
        return views

    def take_step(self, batch: Batch) -> Tensor:
        """Train on one batch; return the loss and its two terms on the device, float32 [3]."""
        terms = self.compute(batch, self.views)
        factor = warmup_cosine(self.step, self.total_steps, self.warmup_steps)
        set_rate(self.optimiser, factor)
        self.optimiser.step()
        self.step += 1
        self.clock.mark("optimiser")
        return terms

    def compute(self, batch: Batch, views: TwoViews) -> Tensor:
        """Do a step without the optimiser's part; return the loss and its terms, float32 [3]."""
        self.clock.mark("copy")
        view_a, view_b = views(batch.crops, *self._keys(batch))
        self.clock.mark("views")
        # Dropout depends on the step, so a resumed run drops what the interrupted one did.
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            outcome: Outcome = self.model(view_a, view_b)
        self.optimiser.zero_grad(set_to_none=True)
        outcome.terms.loss.backward()
        self.latest = outcome.correlation, outcome.embeddings
        self.clock.mark("forward and backward")
        return torch.stack([term.detach().float() for term in outcome.terms])

    def batches(self) -> Iterator[Batch]:
        """Yield this process's rows of the remaining batches."""
        stream = self.reader.batches(self.step, self.total_steps - self.step)
        return feed(stream, self.device, self.clock)

    def _keys(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the keys of the random streams of views A and B, int64 [N] each."""
        seed = self.config.seed
        return (
            sample_keys(seed, batch.epochs, batch.clips, 0),
            sample_keys(seed, batch.epochs, batch.clips, 1),
        )

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
                "optimiser": self.optimiser.state_dict(),
                "norm": self.views.norm.state_dict(),
            },
        )

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
        self.network.encoder.load_state_dict(checkpoint.state)
        self.network.projector.load_state_dict(checkpoint.training["projector"])
        self.optimiser.load_state_dict(checkpoint.training["optimiser"])
        self.views.norm.load_state_dict(checkpoint.training["norm"])
        self.step = checkpoint.step
        earlier = min(self.step, -(-self.views.memory // self.config.batch))
        stream = self.reader.batches(self.step - earlier, earlier)
        for batch in feed(stream, self.device, self.clock):
            self.views.remember(batch.crops)


def _reader(config: TrainConfig, shard_set: ShardSet, ranks: Ranks) -> CropReader:
    return CropReader(
        shard_set,
        frames=crop_length(config, shard_set),
        batch=config.batch,
        rows=ranks.rows(config.batch),
        seed=config.seed,
        ahead=config.reader_ahead,
        hold=HOLD,
        block_shards=config.block_shards,
        cache=config.cache,
        run=str(config.run.absolute()),
        pin=ranks.device.type == "cuda",
    )

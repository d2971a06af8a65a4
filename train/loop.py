"""The training loop on one device."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from model.checkpoint import Checkpoint, build_encoder
from shards.cli import UserError
from shards.reader import Batch, CropReader
from shards.shardset import ShardSet
from train.clock import Clock
from train.config import TrainConfig
from train.draws import sample_keys
from train.lars import LARS, lars_groups
from train.network import BarlowTwins
from train.schedule import warmup_cosine
from train.views import Views


class Trainer:
    """Everything of a run that has state: network, optimiser, views, step.

    Args:
        config: the run.
        shard_set: what it trains on.
    """

    def __init__(self, config: TrainConfig, shard_set: ShardSet) -> None:
        self.config, self.shard_set = config, shard_set
        self.device = _device(config.device)
        self.bf16 = config.precision == "bf16" or (
            config.precision == "auto" and has_bf16(self.device)
        )
        self.sizes: dict[str, int | float] = {"n_mels": shard_set.form.frame_shape[0]}
        torch.manual_seed(config.seed)
        self.network = BarlowTwins(
            build_encoder(config.encoder, self.sizes),
            hidden=config.projector_hidden,
            out_features=config.projector_out,
            lambda_=config.lambda_,
        ).to(self.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        given = config.optimiser
        scale = config.batch / 128
        self.optimiser = LARS(
            lars_groups([self.network], given.lr_weights * scale, given.lr_biases * scale),
            momentum=given.momentum,
            trust=given.trust,
            weight_decay=given.weight_decay,
        )
        for group in self.optimiser.param_groups:
            group["peak_lr"] = group["lr"]
        self.views = Views(config.views)
        self.reader = CropReader(
            shard_set,
            frames=config.crop_frames,
            batch=config.batch,
            seed=config.seed,
            threads=config.reader_threads,
        )
        self.total_steps = max(1, int(config.epochs * self.reader.steps_per_epoch))
        warmup = given.warmup_epochs * self.reader.steps_per_epoch
        self.warmup_steps = min(int(warmup), self.total_steps)
        self.step = 0
        self.clock = Clock()
        self._copied: torch.cuda.Event | None = None

    def take_step(self, batch: Batch) -> Tensor:
        """Train on one batch; return loss and its two terms on the device, float32 [3]."""
        with self.clock.part("views"):
            view_a, view_b = self.views(self._normalised(batch), *self._keys(batch))
        # Dropout is a function of the step, so a resumed run drops what the interrupted one did.
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)
        with self.clock.part("forward and backward"):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                terms = self.network(view_a, view_b)
            self.optimiser.zero_grad(set_to_none=True)
            terms.loss.backward()
        with self.clock.part("optimiser"):
            factor = warmup_cosine(self.step, self.total_steps, self.warmup_steps)
            for group in self.optimiser.param_groups:
                group["lr"] = group["peak_lr"] * factor
            self.optimiser.step()
        self.step += 1
        return torch.stack([term.detach().float() for term in terms])

    def batches(self) -> Iterator[Batch]:
        """Read the batches that are left, counting the wait."""
        stream = self.reader.batches(self.step, self.total_steps - self.step)
        while True:
            with self.clock.part("waiting for data"):
                if self._copied:  # the reader may refill a pinned buffer once its copy is through
                    self._copied.synchronize()
                batch = next(stream, None)
            if batch is None:
                return
            yield batch

    def _normalised(self, batch: Batch) -> Tensor:
        """Bring the crops to the device and normalise them, float32 [N, T, F]."""
        crops = batch.crops.to(self.device, non_blocking=True).float()
        if self.device.type == "cuda":
            self._copied = torch.cuda.Event()
            self._copied.record()
        return (crops - self.shard_set.statistics.mean) / self.shard_set.statistics.std

    def _keys(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Key the random streams of both views of every crop, int64 [N] each."""
        epochs, clips = batch.epochs.to(self.device), batch.clips.to(self.device)
        seed = self.config.seed
        return sample_keys(seed, epochs, clips, 0), sample_keys(seed, epochs, clips, 1)

    def checkpoint(self) -> Checkpoint:
        """Describe the run as it stands."""
        return Checkpoint(
            encoder=self.config.encoder,
            sizes=self.sizes,
            state=self.network.encoder.state_dict(),
            front_end=self.shard_set.form.parameters,
            mean=self.shard_set.statistics.mean,
            std=self.shard_set.statistics.std,
            fingerprint=self.shard_set.fingerprint,
            step=self.step,
            training={
                "projector": self.network.projector.state_dict(),
                "optimiser": self.optimiser.state_dict(),
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on where `checkpoint` was made; the mixup bank is filled from the shards again.

        Raises:
            UserError: it was made on another shard set.
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
        self.step = checkpoint.step
        earlier = min(self.step, -(-self.config.views.mixup_bank // self.config.batch))
        for batch in self.reader.batches(self.step - earlier, earlier):
            self.views.bank.push(self._normalised(batch))
            if self._copied:
                self._copied.synchronize()


def has_bf16(device: torch.device) -> bool:
    """Tell whether the device has bfloat16 arithmetic of its own; emulated, it is the slower."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    flags = Path("/proc/cpuinfo")
    return flags.exists() and bool({"avx512_bf16", "amx_bf16"} & set(flags.read_text().split()))


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device is cuda, but torch finds no GPU; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")

"""One process of several in test_ranks.py and test_lost_worker.py."""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from small_encoder import SMALL
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from audio_barlow_twins.shards.stored.shardset import open_shards
from audio_barlow_twins.train.config import OptimiserConfig, TrainConfig
from audio_barlow_twins.train.run.launch import launch
from audio_barlow_twins.train.run.session import train
from audio_barlow_twins.train.step.feed import Inputs
from audio_barlow_twins.train.step.ranks import Ranks, joined_ranks
from audio_barlow_twins.train.step.synced import synchronise
from audio_barlow_twins.train.step.trainer import Trainer
from audio_barlow_twins.train.views.draws import sample_keys
from audio_barlow_twins.train.views.logmel import Mixup

BATCH = 7
STEPS = 3


def make_config(shards: Path, run: Path) -> TrainConfig:
    """Describe a run of 17 steps with an epoch of 5.7 steps."""
    return TrainConfig(
        shards=str(shards),
        run=run,
        encoder_options=SMALL,
        projector_hidden=32,
        projector_out=16,
        crop_frames=32,
        batch=BATCH,
        epochs=3,
        ranges={"mixup": Mixup(memory=12)},
        optimiser=OptimiserConfig(lr_weights=1.0, lr_biases=0.05, warmup_epochs=0),
        device="cpu",
        precision="float32",
        reader_ahead=2,
        log_every=1,
        checkpoint_every_s=0,
        preflight=False,
    )


def make_network() -> nn.Module:
    """Build layers that look at the whole batch, float64."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        nn.Dropout(0.3), nn.Linear(4 * 6 * 5, 6), nn.BatchNorm1d(6),
    ).double()  # fmt: skip


def layers(ranks: Ranks) -> dict[str, Any]:
    """Pass this process's rows through the layers; return output, gradients and statistics."""
    rows = ranks.rows(BATCH)
    part = slice(rows.start, rows.stop)
    g = torch.Generator().manual_seed(2)
    x = 3 + 5 * torch.randn(BATCH, 1, 8, 7, generator=g, dtype=torch.float64)
    wanted = torch.randn(BATCH, 6, generator=g, dtype=torch.float64)
    network = synchronise(make_network(), ranks, BATCH)
    model = network if ranks.world == 1 else DistributedDataParallel(network)
    mine = x[part].clone().requires_grad_()
    for _ in range(2):
        torch.manual_seed(3)
        y = model(mine)
    # The sum over all processes' losses, each the loss of the whole batch, as in model.loss.
    (ranks.world * (y * wanted[part]).sum()).backward()
    assert mine.grad is not None
    return {
        "gathered": ranks.gather(x[part], BATCH),
        "y": ranks.gather(y.detach(), BATCH),
        "grad_x": ranks.gather(mine.grad, BATCH) / ranks.world,
        "grads": [p.grad.clone() for p in network.parameters() if p.grad is not None],
        "state": {name: value.clone() for name, value in network.state_dict().items()},
    }


def steps(ranks: Ranks, shards: Path, run: Path) -> dict[str, Any]:
    """Take steps in float64; return views, losses and weights."""
    torch.set_default_dtype(torch.float64)
    trainer = Trainer(make_config(shards, run), open_shards(shards), ranks)
    torch.set_default_dtype(torch.float32)
    views, seen = trainer.views, []

    def wide(crops: Tensor, keys: Tensor) -> list[Tensor]:
        made = [view.double() for view in views(crops, keys)]
        seen.append([ranks.gather(view, BATCH) for view in made])
        return made

    trainer.run_step = replace(trainer.run_step, views=wide)  # type: ignore[type-var]
    losses = [
        trainer.take_step(inputs)
        for _, inputs in zip(range(STEPS), trainer.batches(), strict=False)
    ]
    return {
        "views": seen,
        "bank": views.bank.clips(),
        "losses": torch.stack(losses),
        "state": trainer.network.state_dict(),
        "optimiser": trainer.optimiser.state_dict()["state"],
    }


def record(folder: Path) -> None:
    """Make every later trainer note the step and the clips of each batch it takes."""
    taken, clips = Trainer.take_step, np.arange(1000)
    who = {
        key: (epoch, clip)
        for epoch in range(20)
        for clip, key in enumerate(sample_keys(0, np.array([epoch]), clips)[0].tolist())
    }
    name = f"{os.environ.get('RANK', '0')}-of-{os.environ.get('WORLD_SIZE', '1')}-{os.getpid()}"

    def noting(trainer: Trainer, inputs: Inputs) -> Tensor:
        read = [who[key] for key in inputs.keys[0].tolist()]
        epochs, clips = zip(*read, strict=True)
        line = {"step": trainer.step, "clips": clips, "epoch": epochs}
        with (folder / name).open("a") as file:
            file.write(json.dumps(line) + "\n")
        time.sleep(0.05)  # time to be killed in
        return taken(trainer, inputs)

    Trainer.take_step = noting  # type: ignore[method-assign]


def train_with_record(config: TrainConfig) -> None:
    """Train as the command does, noting what is read beside the run folder."""
    torch.set_num_threads(1)
    record(config.run.parent)
    train(config)


def main(what: str, shards: Path, folder: Path) -> None:
    """Compare with one process; or train with a record: as told by torchrun, or by a launch."""
    torch.set_num_threads(1)
    config = make_config(shards, folder / "run")
    if what == "compare":
        with joined_ranks("cpu", BATCH) as ranks:
            result = {"layers": layers(ranks), "steps": steps(ranks, shards, folder / "run")}
            torch.save(result, folder / f"{ranks.rank}.pt")
    elif what == "launch":
        launch(train_with_record, replace(config, workers=2, restarts=1))
    else:
        train_with_record(replace(config, resume=what == "resume"))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))

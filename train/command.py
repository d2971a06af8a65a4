"""`python -m train PRESET`, and what else this room can do: see `--help`."""

import os
from functools import reduce
from operator import or_
from typing import Annotated, Any, cast

import tyro

from train.bench import Bench
from train.config import ShowConfig, TrainConfig
from train.launch import launch
from train.presets import PRESETS
from train.session import train
from train.show import show

OTHERS = [
    Annotated[ShowConfig, tyro.conf.subcommand("views")],
    Annotated[Bench, tyro.conf.subcommand("bench")],
]


def main() -> None:
    """Parse the command line and run what it names."""
    presets: list[Any] = [
        Annotated[TrainConfig, tyro.conf.subcommand(name, default=preset, description=source)]
        for name, (source, preset) in PRESETS.items()
    ]
    command = tyro.cli(
        cast(Any, reduce(or_, [*presets, *OTHERS])),
        prog="python -m train",
        description="Pre-train an encoder by a preset, every number of which can be overridden; "
        "look at views, measure a step.",
    )
    if isinstance(command, TrainConfig):
        start(command)
    elif isinstance(command, ShowConfig):
        show(command)
    else:
        command.run()


def start(config: TrainConfig) -> None:
    """Train here, or in processes of their own."""
    if config.workers > 1 and "WORLD_SIZE" not in os.environ:
        launch(train, config)
    else:
        train(config)

"""`abt train PRESET`, and what else this room can do: see `--help`."""

import os
from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import Annotated, Any, cast

import tyro

from audio_barlow_twins.shards.base.errors import UserError

from .bench_views import BenchViews
from .config import AblationConfig, ListenConfig, ShowConfig, TrainConfig
from .presets import PRESETS
from .run.launch import launch
from .run.session import train
from .tools.bench import Bench
from .tools.listen import listen
from .tools.show import show

OTHERS: dict[str, tuple[type, Callable[[Any], None]]] = {
    "views": (ShowConfig, show),
    "listen": (ListenConfig, listen),
    "bench": (Bench, Bench.run),
    "bench-views": (BenchViews, BenchViews.run),
}
"""Commands besides the presets: what they are told, and what runs them."""


def main() -> None:
    """Parse the command line and run what it names."""
    choices: list[Any] = [
        Annotated[TrainConfig, tyro.conf.subcommand(name, default=preset, description=source)]
        for name, (source, preset) in PRESETS.items()
    ]
    choices += [Annotated[kind, tyro.conf.subcommand(name)] for name, (kind, _) in OTHERS.items()]
    choices.append(_ablations())
    command = tyro.cli(
        cast(Any, reduce(or_, choices)),
        prog="abt train",
        description="Pre-train an encoder by a preset, every number of which can be overridden; "
        "look at views, listen to them, measure a step, compare settings.",
    )
    runs = {kind: run for kind, run in OTHERS.values()} | {AblationConfig: _ablate}
    runs.get(type(command), start)(command)


def start(config: TrainConfig) -> None:
    """Train here, or in processes of their own."""
    if config.workers > 1 and "WORLD_SIZE" not in os.environ:
        launch(train, config)
    else:
        train(config)


def _ablations() -> Any:
    """Offer ablations around every preset."""
    choices: list[Any] = [
        Annotated[
            AblationConfig,
            tyro.conf.subcommand(
                name,
                default=AblationConfig(base=preset, tasks_dir=tyro.MISSING),
                description=f"Ablations around {name}: {source}",
            ),
        ]
        for name, (source, preset) in PRESETS.items()
    ]
    return Annotated[cast(Any, reduce(or_, choices)), tyro.conf.subcommand("ablation")]


def _ablate(config: AblationConfig) -> None:
    try:
        from .ablation.ablation import ablate
    except ImportError as error:
        raise UserError(
            f"ablations need {error.name}: `pip install 'audio-barlow-twins[shards,train,eval]'`"
        ) from error
    ablate(config)

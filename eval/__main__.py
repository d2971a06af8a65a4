"""Score a checkpoint on HEAR tasks, or embed sound files with it."""

import tyro

from eval.benchmark import hear_command
from eval.config import Command, HearConfig
from eval.embed import embed_command
from shards.cli import run_command


def main() -> None:
    config: Command = tyro.cli(Command, prog="python -m eval", description=__doc__)  # type: ignore
    hear_command(config) if isinstance(config, HearConfig) else embed_command(config)


run_command(main)

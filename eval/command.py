"""The command line of this stage."""

from typing import Any, cast

import tyro

from eval.benchmark import hear_command
from eval.config import Command, HearConfig
from eval.embed import embed_command


def main() -> None:
    """Parse the command line and run the subcommand that it names."""
    description = "Score a checkpoint on HEAR tasks, or embed sound files with it."
    config = tyro.cli(cast(Any, Command), prog="python -m eval", description=description)
    if isinstance(config, HearConfig):
        hear_command(config)
    else:
        embed_command(config)

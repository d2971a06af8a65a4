"""The command line of this stage."""

from collections.abc import Callable
from typing import Any, cast

import tyro

from audio_barlow_twins.shards.base.errors import UserError

from .bench import bench_command
from .config import (
    BenchConfig,
    Command,
    EmbedConfig,
    ExportConfig,
    HearConfig,
    SimilarConfig,
    TasksConfig,
    ValidateConfig,
)
from .embed.embed import embed_command
from .share.export import export_command
from .share.similar import similar_command
from .share.validate import validate_command
from .tasks.listing import tasks_command


def hear_command(config: HearConfig) -> None:
    """Run `abt eval hear`; the other commands need no Ray."""
    try:
        from .run.runner import hear_command as run
    except ImportError as error:
        raise UserError(
            f"scoring needs {error.name}: `pip install 'audio-barlow-twins[shards,eval]'`"
        ) from error
    run(config)


COMMANDS: dict[type, Callable[[Any], None]] = {
    HearConfig: hear_command,
    TasksConfig: tasks_command,
    EmbedConfig: embed_command,
    SimilarConfig: similar_command,
    ExportConfig: export_command,
    ValidateConfig: validate_command,
    BenchConfig: bench_command,
}


def main() -> None:
    """Parse the command line and run the subcommand that it names."""
    description = "Score encoders, embed sound with them, and pass them on."
    config = tyro.cli(cast(Any, Command), prog="abt eval", description=description)
    COMMANDS[type(config)](config)

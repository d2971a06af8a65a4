"""The command `abt`: a room, and what the room is asked to do."""

import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module

from audio_barlow_twins.shards.base.cli import UserError, command, dispatch, run_command

ABOUT = """Audio Barlow Twins: audio in, an encoder and its scores out.
What was finished is kept; the same command again does what is missing.
`abt --import MODULE COMMAND …` imports a module of yours first, such as one with a view."""

COMMANDS = {
    "ingest": command("Audio in, shard sets out", "ingest.command.COMMANDS"),
    "shards": command("Look at shard sets, check them", "shards.command.COMMANDS"),
    "train": command("Pre-train an encoder", "train.command.COMMANDS"),
    "eval": command("Score encoders, embed sound", "eval.command.COMMANDS"),
    "model": command("List the encoders", "model.command.Encoders"),
    "embed": command("Embed sound files (abt eval embed)", "eval.embed.embed.Embed"),
    "similar": command("Find similar sounds (abt eval similar)", "eval.share.similar.Similar"),
    "export": command("Export an encoder (abt eval export)", "eval.share.export.Export"),
}


def main(words: Sequence[str] | None = None) -> None:
    """Run what the command line names, or `words`."""
    run_command(partial(run, sys.argv[1:] if words is None else words))


def run(words: Sequence[str]) -> None:
    """Run what `words` name; raises as `shards.base.cli.dispatch`."""
    while words[:1] == ["--import"]:
        if len(words) == 1:
            raise UserError("--import wants the name of a module")
        sys.path.insert(0, "")  # where modules of one's own lie
        import_module(words[1])
        words = words[2:]
    dispatch("abt", ABOUT, COMMANDS, words)

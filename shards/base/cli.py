"""One pattern for every command line: a table of commands, each a dataclass with `run()`.

A room's `command.py` lists its commands with a line of help each. A command's module is imported
only when it is chosen: `--help` is quick, and a stage runs without the packages of the others.
"""

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from operator import methodcaller
from typing import Any, NamedTuple

import tyro
from tyro import MISSING as MISSING
from tyro.conf import OmitArgPrefixes as OmitArgPrefixes
from tyro.conf import Positional as Positional
from tyro.conf import arg as arg

from .errors import UserError


class Command(NamedTuple):
    """One entry of a table of commands."""

    text: str
    """What it does, in one line of help."""
    load: Callable[[], Any]
    """Return a dataclass with `run()`, an instance of one whose values are the defaults, or a
    table of further commands."""
    run: Callable[[Any], None] = methodcaller("run")
    """Called with the dataclass that was parsed from the remaining words."""


Commands = Mapping[str, Command]


def command(text: str, where: str) -> Command:
    """Return a command; its dataclass or table (`shards.look.Ls`) is imported when it is chosen."""
    module, _, name = f"audio_barlow_twins.{where}".rpartition(".")
    return Command(text, lambda: getattr(import_module(module), name))


def dispatch(program: str, about: str, commands: Commands, words: Sequence[str]) -> None:
    """Run the command that the first word names, with the remaining words.

    Raises:
        UserError: there is no such command, or the command raised it.
        SystemExit: help was asked for, or the remaining words do not fit.
    """
    name, *others = words or ["--help"]
    if name in ("-h", "--help"):
        say(_usage(program, about, commands))
        return
    if name not in commands:
        raise UserError(f"{program} has no command {name!r}; choose from {', '.join(commands)}")
    found = commands[name].load()
    if isinstance(found, Mapping):
        dispatch(f"{program} {name}", commands[name].text, found, others)
    else:
        commands[name].run(parse(found, f"{program} {name}", others))


def parse(kind: Any, program: str, words: Sequence[str]) -> Any:
    """Return the dataclass that the words describe; an instance supplies its own defaults."""
    if isinstance(kind, type):
        return tyro.cli(kind, prog=program, args=words)
    return tyro.cli(type(kind), prog=program, args=words, default=kind)


def _usage(program: str, about: str, commands: Commands) -> str:
    width = max(map(len, commands))
    rows = [f"  {name:<{width}}  {command.text}" for name, command in commands.items()]
    usage = f"usage: {program} COMMAND …    ({program} COMMAND --help says more)"
    return "\n".join([usage, "", about, "", *rows])


def run_command(main: Callable[[], None]) -> None:
    """Run a program; print a UserError as one line on stderr and exit with code 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("botocore", "aiobotocore"):  # they log where they found credentials
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        main()
    except UserError as error:
        say(f"error: {error}", stream=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        say("interrupted; what was finished is kept, run the command again", stream=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output (head, less) has exited; keep the flush at exit from failing too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str, stream=None) -> None:
    """Write one line of command output."""
    (stream or sys.stdout).write(text + "\n")

"""The command `abt`: a room, and what the room is asked to do."""

import sys
from importlib import import_module

from audio_barlow_twins.shards.base.cli import run_command, say
from audio_barlow_twins.shards.base.errors import UserError

ROOMS = {
    "ingest": "audio in, shard sets out",
    "shards": "look at shard sets, check them, derive one from another",
    "train": "pre-train an encoder; look at views, listen to them, compare settings",
    "eval": "score encoders, embed sound with them, pass them on",
    "model": "list the encoders",
}
SHORT = {"embed": "eval", "similar": "eval", "export": "eval"}


def main() -> None:
    """Run the room that the command line names."""
    run_command(_dispatch)


def _dispatch() -> None:
    name, *words = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        rows = [f"  {room:<8}{text}" for room, text in ROOMS.items()]
        short = ", ".join(f"`abt {name}`" for name in SHORT)
        say("\n".join(["usage: abt ROOM …   (abt ROOM --help)", "", *rows, "", f"Short: {short}"]))
        return
    if name in SHORT:
        name, words = SHORT[name], [name, *words]
    if name not in ROOMS:
        choices = ", ".join([*ROOMS, *SHORT])
        raise UserError(f"abt has no command {name!r}; choose from {choices}")
    sys.argv = [f"abt {name}", *words]
    import_module(f"audio_barlow_twins.{name}.command").main()

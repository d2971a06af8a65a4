"""The commands of `abt shards`."""

from .base.cli import command

COMMANDS = {
    "ls": command("List the shards of a set: clips, failures, size, hours.", "shards.look.Ls"),
    "stats": command(
        "Summarise a set: mean and deviation, hours, labels, failures.", "shards.look.Stats"
    ),
    "verify": command("Compare every byte of a set with its sidecars.", "shards.look.Verify"),
    "logmel": command("Make a log-mel set from a wave set.", "shards.derive.Logmel"),
}

"""`python -m ingest SOURCE`: see `--help`."""

from ingest.command import main
from shards.cli import run_command

if __name__ == "__main__":
    run_command(main)

"""`python -m shards COMMAND`: see `--help`."""

from shards.cli import run_command
from shards.config import main

if __name__ == "__main__":
    run_command(main)

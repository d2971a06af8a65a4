"""`python -m train PRESET`: see `--help`."""

from shards.cli import run_command
from train.command import main

if __name__ == "__main__":
    run_command(main)

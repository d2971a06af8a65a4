"""`python -m eval hear | embed | similar | export | validate | bench`: see `--help`."""

from eval.command import main
from shards.cli import run_command

if __name__ == "__main__":
    run_command(main)

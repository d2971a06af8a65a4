"""What every `python -m STAGE` shares: logging, one-line errors, exit codes, clean interruption."""

import logging
import os
import sys
from collections.abc import Callable

from .errors import UserError


def run_command(main: Callable[[], None]) -> None:
    """Run one command line; turn a `UserError` into one line on stderr and exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("botocore", "aiobotocore"):  # where they found credentials, and the like
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
        # The reader of our output (head, less) has gone; a second failing flush says nothing new.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str, stream=None) -> None:
    """Write one line of command output."""
    (stream or sys.stdout).write(text + "\n")

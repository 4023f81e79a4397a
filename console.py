"""Lines on standard output."""

import os
import sys


def say(line: str = "") -> None:
    """Print a line; a reader that went away (`| head`) does not end a run of hours."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

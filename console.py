"""Lines on standard output."""

import os
import sys

from processes import is_first


def say(line: str = "") -> None:
    """Print a line, once for all processes; a reader that went away (`| head`) does not end a run of hours."""
    if not is_first():
        return
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

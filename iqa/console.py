"""Lines on standard output."""

import sys

from iqa.processes import is_first
from iqa.streams import write_line


def say(line: str = "") -> None:
    """Print a line, once for all processes; a reader that went away (`| head`) does not end a run of hours."""
    if is_first():
        write_line(line, sys.stdout)

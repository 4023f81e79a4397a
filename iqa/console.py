"""Lines on standard output."""

import contextlib

from iqa.processes import is_first


def say(line: str = "") -> None:
    """Print a line, once for all processes; a reader that went away (`| head`) does not end a run of hours."""
    if is_first():
        with contextlib.suppress(BrokenPipeError):
            print(line, flush=True)

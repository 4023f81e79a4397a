"""Standard output and standard error, whose reader may go away before the program ends, as `head` does.

Python keeps what it could not write and tries it again: at the start of each worker, and at its own end, where the failure
is status 120. So a stream whose reader went away is led to where everything is taken, as the Python documentation has it
(module signal, "Note on SIGPIPE").
"""

import atexit
import os
import sys
from typing import TextIO


def write_line(line: str, stream: TextIO) -> None:
    """Write the line at once, or nowhere if nobody reads the stream any more."""
    try:
        print(line, file=stream, flush=True)
    except BrokenPipeError:
        lead_nowhere(stream)


def flush() -> None:
    """What others wrote to the two streams, such as argparse and warnings, is read, or nobody reads it any more."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None where it was closed from the start
        try:
            stream.flush()
        except BrokenPipeError:
            lead_nowhere(stream)


def lead_nowhere(stream: TextIO) -> None:
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
    stream.flush()


atexit.register(flush)  # before Python's own last flush, however the program ends

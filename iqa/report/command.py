"""How report_ablation.py begins and ends as a command: its libraries take a second to load, and Ctrl-C may come in it."""

import signal
import traceback
from collections.abc import Callable
from typing import NoReturn

from iqa import command_line
from iqa.command_line import Stopped, stop_on_signals, write_error


def begin() -> None:
    command_line.begin(stop_on_signals, tell_why)


def end(work: Callable[[], int]) -> NoReturn:
    """Do the work, and end the program with the status that it returns."""
    command_line.end(work, tell_why)


def tell_why(error: BaseException) -> int:
    """Say what ended the command; returns the exit status."""
    if isinstance(error, SystemExit):
        return error.code
    if isinstance(error, Stopped):
        write_error(f"Stopped by {signal.Signals(error.args[0]).name}. The same command makes the report anew.")
        return 128 + error.args[0]
    traceback.print_exception(error)
    return 1

"""How score_images.py begins and ends as a command.

It begins without torch, which takes seconds to load, so that what is wrong with a flag or a file is told at once.
"""

import argparse
import functools
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from iqa import command_line
from iqa.atomic_files import check_writable
from iqa.command_line import FAULTS, Stopped, one_line, stop_on_signals, write_error
from iqa.scoring.files import find_images, printable
from iqa.scoring.options import build_parser


class Command(NamedTuple):
    """One call of the command."""

    options: argparse.Namespace
    paths: list[str]  # of the images
    tell_why: Callable[[BaseException], int]


def begin(description: str) -> Command:
    """The checked flags and the images that they name; ends the program where there is nothing to score."""
    stop_on_signals()
    options = argparse.Namespace(traceback=False)
    warnings.filterwarnings("ignore", module="PIL")  # of odd metadata; what cannot be read is an error of its own
    sys.stdout.reconfigure(errors="backslashreplace")
    tell = functools.partial(tell_why, options=options)

    def check() -> list[str]:
        vars(options).update(vars(build_parser(description).parse_args()))
        return find(options)

    return Command(options, command_line.begin(check, tell), tell)


def find(options: argparse.Namespace) -> list[str]:
    paths = find_images(options.images)
    check_writable("--output", options.output)
    check_writable("--report", options.report)
    return paths


def end(command: Command, work: Callable[..., int]) -> NoReturn:
    """Do the work, and end the program with the status that it returns."""
    command_line.end(lambda: work(command.options, command.paths), command.tell_why)


def tell_why(error: BaseException, options: argparse.Namespace) -> int:
    """Say what ended the command; returns the exit status."""
    if isinstance(error, SystemExit):
        return error.code
    if isinstance(error, Stopped):
        name = signal.Signals(error.args[0]).name
        write_error(f"Stopped by {name}; --output and --report are written when every image is scored.")
        return 128 + error.args[0]
    if options.traceback or not isinstance(error, FAULTS):
        traceback.print_exception(error)
    else:
        write_error(f"error: {printable(one_line(error))}")
    return 1

"""What the commands share: flags that are checked, errors of one line, and signals that end a command in order.

This file does without torch.
"""

import argparse
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

from iqa.processes import is_first, leave, process_count, process_number
from iqa.streams import flush, write_line

T = TypeVar("T")
OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED", "llocate memory", "bad_alloc")  # of CUDA, its libraries, host, C++
FAULTS = (OSError, ValueError, MemoryError, RuntimeError)  # of users, disks and devices; the others are bugs
OTHERS_TELL = 5  # seconds in which the process that an error began in may tell of it


class OneLineParser(argparse.ArgumentParser):
    """argparse, with errors of one line."""

    about = ""  # before an error: whose flags these are, where a command looks at those of several

    def error(self, message):
        report(f"{self.about}{message}; see --help")
        self.exit(2)


class HelpWithDefaults(argparse.ArgumentDefaultsHelpFormatter):
    """Names a default where the flag has one and its help does not."""

    def _get_help_string(self, action):
        if action.default in (None, False, "") or "default:" in action.help:
            return action.help
        return super()._get_help_string(action)


def given_flags(parser: argparse.ArgumentParser, arguments: list[str] | None, options: argparse.Namespace) -> set[str]:
    """The flags that the command line names, whatever their values."""
    unset = object()
    blank = argparse.Namespace(**dict.fromkeys(vars(options), unset))
    return {name for name, value in vars(parser.parse_args(arguments, blank)).items() if value is not unset}


def number(kind: type, low: float, high: float = math.inf, *, below: bool = False) -> Callable:
    """An argparse type: a finite `kind` in [low, high], or in [low, high) with `below`."""

    def parse(text):
        try:
            value = kind(text)
            in_range = math.isfinite(value) and low <= value <= high and not (below and value == high)
        except (ValueError, OverflowError):
            in_range = False
        if not in_range:
            bounds = (
                "finite"
                if low == -math.inf
                else f"at least {low}"
                if high == math.inf
                else f"{low} to {'below ' * below}{high}"
            )
            raise argparse.ArgumentTypeError(f"{text!r} is not {'an integer' if kind is int else 'a number'}, {bounds}")
        return value

    return parse


class Stopped(BaseException):
    """SIGTERM or Ctrl-C; the last whole epoch is on disk."""


def stop_on_signals() -> list[int]:
    """The first signal ends the run in order, the second at once; returns the list that the first is put in."""
    received = []

    def stop(number, _frame):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        received.append(number)
        raise Stopped(number)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    return received


def begin(prepare: Callable[[], T], tell_why: Callable[[BaseException], int]) -> T:
    """What `prepare` found out before the slow libraries are loaded; an error ends the program as `tell_why` has it.

    That holds for the lines between this call and `end`, too, which load them.
    """
    try:
        prepared = prepare()
    except BaseException as error:
        leave(tell_why(error))
    sys.excepthook = lambda _kind, error, _trace: leave_at_once(tell_why(error))
    return prepared


def end(work: Callable[[], int | None], tell_why: Callable[[BaseException], int]) -> NoReturn:
    """Do the work and end the program, with the exit status that it returns (None: 0)."""
    try:
        status = work() or 0
    except BaseException as error:
        sys.unraisablehook = lambda _: None  # what breaks while the work is taken down is not the fault
        status = tell_why(error)
    leave(status)


def leave_at_once(status: int) -> NoReturn:
    """While libraries are loaded there is nothing to take down, and an exception hook cannot choose the status."""
    flush()
    os._exit(status)


def one_line(error: BaseException, more_memory: str = "try --device cpu") -> str:
    """The error's message, with the way out where another program wrote it."""
    line = first_line(error)
    if "DataLoader worker" in line or "shared memory" in line and "out of resource" not in line:  # of a GPU kernel
        return f"--num_workers: a process that cuts patches died ({line}); use fewer, or 0, or enlarge /dev/shm"
    if isinstance(error, MemoryError) or any(sign in line for sign in OUT_OF_MEMORY):
        return f"not enough memory ({line}); {more_memory}"
    return line


def first_line(error: BaseException) -> str:
    """Of its message; of an error in a loader's worker, the last of what it carried over."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return (lines[-1].partition(": ")[2] or lines[-1]) if lines[0].startswith("Caught ") else lines[0]


def report(error: str) -> None:
    """On standard error, in one line.

    What stops one of several processes mostly stops the first too, or comes from the loss of another: it is left to
    that one to tell, and torchrun ends this process as soon as it has.
    """
    lost_another = process_count() > 1 and any(sign in error for sign in ("gloo", "NCCL", "Connection closed"))
    if lost_another or not is_first():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(OTHERS_TELL)
        error = f"process {process_number()} of 0-{process_count() - 1}: {error}"
    write_error(f"error: {error}")


def write_error(line: str) -> None:
    write_line(line, sys.stderr)

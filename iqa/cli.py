"""Functions that all commands share: checked flags, output, one-line errors, and an orderly end by signals.

A script checks its flags and files before it loads torch, which takes seconds. Its `main` is therefore defined and
called above the slow imports, and imports the rest of its own file:

    def main(argv: list[str] | None = None) -> int:
        with Command(argv) as command:
            options = build_parser().parse_args(argv)
            from score_images import run
            command.status = run(options)
        return command.status
"""

import argparse
import atexit
import contextlib
import dataclasses
import difflib
import io
import math
import os
import signal
import sys
import threading
import time
import traceback
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TextIO

from iqa.processes import is_first, process_count, process_number

OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED", "llocate memory", "bad_alloc")  # CUDA, its libraries, the host, C++
USER_ERRORS = (OSError, ValueError, MemoryError, RuntimeError)  # errors of input, disks and devices; others are bugs
REPORT_DELAY = 5  # seconds that a process waits, so that the first error is reported first


# Flags


class OneLineParser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line."""

    about = ""  # prefix of error messages

    def error(self, message: str) -> NoReturn:
        unknown = message.partition("unrecognized arguments: ")[2].split()
        known = (
            difflib.get_close_matches(unknown[0].partition("=")[0], self._option_string_actions, 1) if unknown else ()
        )
        hint = f"; did you mean {known[0]}?" if known else ""
        report(f"{self.about}{message}{hint}; see --help")
        self.exit(2)


class HelpWithDefaults(argparse.ArgumentDefaultsHelpFormatter):
    """Append the default to the help of each flag that has one, unless the help states it."""

    def _get_help_string(self, action):
        if action.default in (None, False, "") or "default:" in action.help:
            return action.help
        return super()._get_help_string(action)


def flag(default: Any, help: str, *, may_change: bool = False, **settings: Any) -> Any:
    """A field of a dataclass that `add_flags` turns into a flag.

    Args:
        may_change: a resumed run may have another value, which does not affect its results.
        settings: arguments of `add_argument`; or `low`, and `high` or `below`, the bounds of a number.
    """
    return dataclasses.field(default=default, metadata={"help": help, "may_change": may_change, **settings})


def add_flags(parser: argparse._ActionsContainer, section: type) -> None:
    """Add the fields of a dataclass as flags to a parser, or to a group of one.

    A text must not be empty unless its default is.
    """
    kinds = typing.get_type_hints(section)
    for field in dataclasses.fields(section):
        settings, kind = dict(field.metadata), kinds[field.name]
        del settings["may_change"]
        if kind is bool:
            settings.setdefault("action", "store_true")
        bounds = {name: settings.pop(name) for name in ("low", "high", "below") if name in settings}
        if bounds:
            settings["type"] = number((typing.get_args(kind) or (kind,))[0], **bounds)  # the first of `int | None`
        if kind in (str, str | None) and field.default != "":
            settings.setdefault("type", not_empty)
        parser.add_argument(f"--{field.name}", default=field.default, **settings)


def given_flags(parser: argparse.ArgumentParser, argv: list[str] | None, options: argparse.Namespace) -> set[str]:
    """Names of the flags that the command line contains, whatever their values."""
    unset = object()
    blank = argparse.Namespace(**dict.fromkeys(vars(options), unset))
    return {name for name, value in vars(parser.parse_args(argv, blank)).items() if value is not unset}


def number(kind: type, low: float, high: float = math.inf, *, below: float = math.inf) -> Callable:
    """An argparse type: a finite `kind` in [low, high], and less than `below`."""
    bounds = f"{low} to below {below}" if below < math.inf else f"{low} to {high}"
    if high == below == math.inf:
        bounds = "finite" if low == -math.inf else f"at least {low}"

    def parse(text):
        try:
            value = kind(plain_digits(text))
            in_range = math.isfinite(value) and low <= value <= high and value < below
        except (ValueError, OverflowError):
            in_range = False
        if not in_range:
            raise argparse.ArgumentTypeError(f"{text!r} is not {'an integer' if kind is int else 'a number'}, {bounds}")
        return value

    return parse


def plain_digits(text: str) -> str:
    """The text of a number; ValueError for digits of other scripts and for underscores, which Python accepts."""
    if "_" in text or not text.isascii():
        raise ValueError(text)
    return text


def not_empty(text: str) -> str:
    """An argparse type: a text that is not empty, as an unset variable of the shell would be."""
    if not text:
        raise argparse.ArgumentTypeError("the value is empty; leave the flag out for its default")
    return text


# The course of a command


class Stopped(BaseException):
    """Raised by Ctrl-C, SIGTERM and SIGHUP."""


class Command:
    """A context that turns signals and errors into one line on standard error and an exit status.

    The first signal raises `Stopped`; the second one ends the process at once.

    Attributes:
        status: the exit status; 0 unless the body sets it or fails.
        when_stopped: a sentence for the message of a stopped command, or a function that returns it: what it wrote and
            how to continue.
        more_memory: advice for a command that ran out of memory.
    """

    def __init__(
        self, argv: list[str] | None, *, when_stopped: str | Callable = "", more_memory: str = "try --device cpu"
    ):
        self.show_traceback = "--traceback" in (sys.argv if argv is None else argv)
        self.when_stopped, self.more_memory = when_stopped, more_memory
        self.status, self.signal = 0, None

    def __enter__(self) -> "Command":
        global _log
        _log = io.StringIO()
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as it is under nohup
            numbers.append(signal.SIGHUP)
        self._handlers = {number: signal.signal(number, self._stop) for number in numbers}
        self._unraisable_hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        self._process = os.getpid()
        return self

    def _unraisable(self, failure) -> None:
        """Send the signal again if it arrived during a finalizer: Python drops the exceptions of finalizers."""
        if failure.exc_type is not Stopped:
            return self._unraisable_hook(failure)
        number, self.signal = self.signal, None
        for each in self._handlers:
            signal.signal(each, self._stop)
        threading.Timer(0.01, os.kill, (os.getpid(), number)).start()  # when the finalizer has ended

    def _stop(self, number: int, _frame) -> NoReturn:
        if os.getpid() != self._process:  # a worker that has just been forked and has no handler of its own yet
            os._exit(128 + number)
        for each in self._handlers:  # a terminal that closes sends SIGHUP twice
            signal.signal(each, signal.SIG_IGN if each == signal.SIGHUP else signal.SIG_DFL)
        self.signal = signal.Signals(number)
        raise Stopped(number)

    def __exit__(self, _kind, error: BaseException | None, _trace) -> bool:
        global _log
        sys.unraisablehook = self._unraisable_hook
        if error is not None:
            sys.unraisablehook = lambda _: None  # failures of the clean-up must not hide the error
            self.status = self._report(error)
        with contextlib.suppress(OSError):
            _log.close()
        _log = None
        if self.signal is None:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
        if process_count() > 1:
            # At Python's regular exit, a gloo thread that still releases a tensor would abort the process
            # (https://github.com/pytorch/pytorch/pull/179291).
            flush()
            os._exit(self.status)
        return True

    def _report(self, error: BaseException) -> int:
        """Print what ended the command; returns the exit status."""
        if isinstance(error, SystemExit):
            if isinstance(error.code, str):
                write_error(error.code)
            return error.code if isinstance(error.code, int) else int(error.code is not None)
        if self.signal:  # the error may come from a worker that received the signal too
            if is_first():
                advice = self.when_stopped() if callable(self.when_stopped) else self.when_stopped
                write_error(f"Stopped by {self.signal.name}. {advice}".rstrip())
            return 128 + self.signal
        if isinstance(error, ModuleNotFoundError):
            report_missing_package(type(error), error, error.__traceback__)
        elif self.show_traceback or not isinstance(error, USER_ERRORS):
            write_error("".join(traceback.format_exception(error)).rstrip())
        else:
            report(one_line(error, self.more_memory))
        return 1


def report_missing_package(kind: type[BaseException], error: BaseException, trace) -> None:
    """An exception hook: one line for Ctrl-C and for a package that is not installed."""
    if issubclass(kind, KeyboardInterrupt):
        write_error("Stopped by SIGINT.")
    elif issubclass(kind, ModuleNotFoundError) and not str(error.name).startswith("iqa"):
        report(f"the package {error.name} is missing: source .venv/bin/activate, or bash run_tests.sh makes it")
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = report_missing_package  # while a script imports its modules


# Errors of one line


def one_line(error: BaseException, more_memory: str) -> str:
    """The error's message, with advice for errors of libraries and of the system."""
    line = first_line(error)
    if "DataLoader worker" in line or "shared memory" in line and "out of resource" not in line:  # not a GPU kernel
        return f"--num_workers: a process that cuts patches died ({line}); use fewer, or 0, or enlarge /dev/shm"
    if isinstance(error, MemoryError) or any(sign in line for sign in OUT_OF_MEMORY):
        return f"not enough memory ({line}); {more_memory}"
    return line


def first_line(error: BaseException) -> str:
    """The first line of the message; for an error in a loader's worker, the last line of its traceback."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return (lines[-1].partition(": ")[2] or lines[-1]) if lines[0].startswith("Caught ") else lines[0]


def report(error: str) -> None:
    """Print one line on standard error.

    With several processes, an error is often a consequence of the failure of another process. That process reports
    its error first, and torchrun then ends the others.
    """
    lost_another = process_count() > 1 and any(sign in error for sign in ("gloo", "NCCL", "Connection closed"))
    if lost_another or not is_first():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(REPORT_DELAY)
        error = f"process {process_number()} of 0-{process_count() - 1}: {error}"
    write_error(f"error: {printable(error)}")


def printable(text: str) -> str:
    """Escape control characters and bytes that are not UTF-8, so that file names cannot send control codes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# Output. A reader may close the stream before the program ends, as `head` does. Python keeps output that it could not
# write and tries again when a worker starts and at exit, where the failure gives status 120. The stream is therefore
# redirected to /dev/null (Python documentation, module signal, "Note on SIGPIPE").


_log: TextIO | None = None  # the log of a command: in memory until its file is open


def open_log(path: Path, *, append: bool) -> None:
    """Write all lines of this command into a file too."""
    global _log
    before = _log.getvalue()
    try:
        _log = open(path, "a" if append else "w", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror}); remove it, or name another folder") from error
    write_log(before)


def write_log(text: str) -> None:
    if _log:
        with contextlib.suppress(OSError):  # a full disk is reported where a result is written
            _log.write(text)
            _log.flush()


def say(line: str = "") -> None:
    """Print a line on standard output, in the first process only."""
    if is_first():
        write_line(line, sys.stdout)


def write_error(line: str) -> None:
    write_line(line, sys.stderr)


def write_line(line: str, stream: TextIO) -> None:
    write_log(f"{line}\n")
    try:
        print(line, file=stream, flush=True)
    except OSError as error:
        redirect_to_null(stream)
        if stream is sys.stdout and not isinstance(error, BrokenPipeError):
            raise OSError(f"standard output cannot be written ({error.strerror}); make room or redirect it") from error


def flush() -> None:
    """Flush both streams, which argparse and warnings write to as well."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            redirect_to_null(stream)


def redirect_to_null(stream: TextIO) -> None:
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), stream.fileno())
    stream.flush()


for name in ("stdout", "stderr"):
    if getattr(sys, name) is None:  # closed at the start
        setattr(sys, name, open(os.devnull, "w", errors="backslashreplace"))
    elif isinstance(getattr(sys, name), io.TextIOWrapper):
        getattr(sys, name).reconfigure(errors="backslashreplace")  # where the encoding lacks a character
atexit.register(flush)  # runs before Python's own final flush

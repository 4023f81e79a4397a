"""Commands with a limit of time: they end, with all that they started, when it is over."""

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

KEPT = 300  # characters of what a command that failed said last


class Failed(Exception):
    """A command did not do what it should; says which and why, in one line."""


class OutOfTime(Exception):
    """A command was ended since its time was over."""


def run(command: list, seconds: float, cwd: Path, *, statuses: tuple[int, ...] = (0,)) -> str:
    """The standard output of a command that ends in time with one of the statuses."""
    process = start(command, cwd)
    try:
        output, errors = process.communicate(timeout=max(0.1, seconds))
    except subprocess.TimeoutExpired as error:
        raise OutOfTime(f"ended after {seconds:.0f} s: {name_of(command)} was not finished") from error
    finally:
        end(process)
    if process.returncode not in statuses:
        raise Failed(f"{name_of(command)} ended with status {process.returncode}: {last_line(errors or output)}")
    return output


def start(command: list, cwd: Path) -> subprocess.Popen:
    """In a session of its own, so that its workers can be ended with it."""
    return subprocess.Popen(
        list(map(str, command)),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen) -> None:
    """Kill what is left of a command and of what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        stream.close()


def wait_until(condition, process: subprocess.Popen, end_time: float) -> None:
    """Until the condition holds; a command that ends before it has failed."""
    while not condition():
        if process.poll() is not None:
            raise Failed(f"ended with status {process.returncode} too early: {last_line(process.stderr.read())}")
        if time.monotonic() > end_time:
            raise OutOfTime("no time left")
        time.sleep(0.05)


def json_of(output: str) -> dict:
    """What a script of this folder printed last, as one line of JSON."""
    try:
        return json.loads(output.strip().splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise Failed(f"no JSON in {last_line(output)!r}") from error


def name_of(command: list) -> str:
    return next((Path(word).name for word in map(str, command) if word.endswith((".py", ".sh"))), str(command[-1]))


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1][-KEPT:]

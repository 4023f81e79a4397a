"""The reader of standard output or standard error goes away: the work is done, with its own exit status."""

import os
import re
import shlex
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

IMPORTS = """
import multiprocessing, sys, warnings
from iqa.cli import Command, report, say, write_error
"""
SEVERAL = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": "0"}
CASES = {
    "lines": ("say('x'); say('y')", 0, {}),
    "lines without a buffer": ("say('x'); say('y')", 0, {"PYTHONUNBUFFERED": "1"}),
    "a line before a worker starts": (
        "say('x'); worker = multiprocessing.get_context('fork').Process(target=int); worker.start(); worker.join(); "
        "sys.exit(worker.exitcode)",
        0,
        {},
    ),
    "what others print, left to the end": ("print('x')", 0, {}),
    "what others print, more than a buffer": ("say('x'); print('y' * 100_000); print('z')", 0, {}),
    "an error": ("report('x'); sys.exit(2)", 2, {}),
    "a warning": ("warnings.warn('x'); sys.exit(3)", 3, {}),
    "an exception": ("say('x'); 1 / 0", 1, {}),
    "one of several processes": ("with Command([]): print('x'); sys.exit(4)", 4, SEVERAL),
}


@pytest.mark.parametrize("name", CASES)
def test_where_nobody_reads_the_status_is_that_of_the_work(name):
    code, status, more = CASES[name]
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-c", IMPORTS + code], cwd=ROOT, env={**os.environ, **more}, stdout=writer, stderr=writer
    )
    os.close(writer)
    assert process.returncode == status


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_a_stream_that_is_closed_at_the_start_changes_nothing(closed):
    code = IMPORTS + "say('x'); write_error('y'); print(sys.stderr.isatty()); sys.exit(5)"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} {closed}"
    assert subprocess.run(["bash", "-c", command], cwd=ROOT).returncode == 5


def test_a_full_disk_behind_standard_output_is_one_line():
    with open("/dev/full", "w") as full:
        code = IMPORTS + "with Command([]) as command: say('x')\nsys.exit(command.status)"
        process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert process.returncode == 1
    assert re.fullmatch(r"error: standard output cannot be written \(No space .*\n", process.stderr)


def test_characters_that_the_terminal_lacks_are_escaped():
    code = IMPORTS + "say('\u0394 SRCC')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True)
    assert (process.returncode, process.stdout) == (0, b"\\u0394 SRCC\n")


def test_only_what_nobody_reads_is_lost():
    code = "say('one'); write_error('two'); sys.stdin.read(); say('three'); write_error('four'); print('five')"
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", IMPORTS + code], cwd=ROOT, text=True, **streams) as process:
        assert process.stdout.readline() == "one\n"
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == "two\nfour\n"
    assert process.returncode == 0


def test_a_signal_that_arrives_in_a_finalizer_ends_the_command():
    """Python drops the exceptions of finalizers."""
    code = """
import os, signal, time
class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
with Command([]) as command:
    Finalized()
    time.sleep(60)
sys.exit(command.status)
"""
    process = subprocess.run([sys.executable, "-c", IMPORTS + code], cwd=ROOT, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (143, "Stopped by SIGTERM.\n")


def test_ctrl_c_while_a_script_imports_its_modules_is_one_line():
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); signal.raise_signal(signal.SIGINT)"
    process = subprocess.run([sys.executable, "-c", IMPORTS + code], cwd=ROOT, capture_output=True, text=True)
    assert process.stderr == "Stopped by SIGINT.\n" and process.returncode != 0


def test_a_signal_in_a_worker_that_has_just_been_forked_ends_it_without_a_word():
    """The worker has the handlers of the command until it sets its own."""
    code = """
import signal
with Command([]) as command:
    worker = multiprocessing.get_context("fork").Process(target=signal.raise_signal, args=(signal.SIGINT,))
    worker.start()
    worker.join()
    command.status = worker.exitcode
sys.exit(command.status)
"""
    process = subprocess.run([sys.executable, "-c", IMPORTS + code], cwd=ROOT, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (128 + signal.SIGINT, "")

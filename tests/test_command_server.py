"""A command that the command server forks for is, for all that a test can see, one by an interpreter of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import command_server
import pytest
from conftest import INSTEAD_OF_RESNET50, ROOT, TINY_FLAGS, assert_one_line_error, run_program, start_program, train
from faults import FLAGS, assert_nobody_is_left, assert_same_run, at_call, copy_run, inject

INTERPRETERS = ("real", "served")
SHOW = """
import os, resource, signal, sys, threading
import numpy, torch
def name(handler):
    return getattr(handler, "__name__", handler)
def stream(file):
    file.reconfigure(errors="backslashreplace")
    return [file.name, file.mode, file.encoding, file.errors, file.line_buffering, file.write_through, file.isatty(), file.seekable()]
umask = os.umask(0)
numbers = torch.get_num_threads(), torch.get_num_interop_threads()
# With several threads OpenBLAS starts some when it is loaded; in a fork, when it needs them.
tasks = len(os.listdir("/proc/self/task")) if numbers[0] == 1 else None
for line in (
    ("arguments", sys.argv, sys.orig_argv), ("paths", sys.path), ("folder", os.getcwd()), ("flags", sys.flags),
    ("variables", sorted(os.environ.items())), ("descriptors", sorted(os.listdir("/proc/self/fd"))[:-1]),
    ("signals", {int(number): name(signal.getsignal(number)) for number in signal.valid_signals()}),
    ("blocked", signal.pthread_sigmask(signal.SIG_BLOCK, [])), ("leader", os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()),
    ("limits", [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")]),
    ("umask", umask), ("streams", [stream(file) for file in (sys.stdin, sys.stdout, sys.stderr)]),
    ("module", __name__, __file__, __doc__, __package__, __spec__, sys.modules["__main__"].__dict__ is globals()),
    ("threads", threading.active_count(), tasks, numbers),
    ("processors", os.sched_getaffinity(0), os.nice(0)), ("hooks", name(sys.excepthook), name(sys.unraisablehook)),
    ("torch", torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_float32_matmul_precision()),
):
    print(*line)
"""
ENDS = {
    "nothing": "",
    "a status": "import sys; sys.exit(3)",
    "words as a status": "import sys; sys.exit('a reason')",
    "at once": "import os, sys; print('lost', end=''); os._exit(4)",
    "an exception": "def f():\n    raise KeyError('a')\ntry:\n    f()\nexcept KeyError as error:\n    raise ValueError('b') from error",
    "a mistake of syntax": "print(1)\nprint(",
    "Ctrl-C": "raise KeyboardInterrupt",
    "a hook": "import sys; sys.excepthook = lambda *error: print('hook', error[0], error[2].tb_lineno); 1 / 0",
    "SIGTERM": "import os, signal; print('kept'); os.kill(os.getpid(), signal.SIGTERM)",
    "SIGKILL": "import os, signal; print('kept', flush=True); os.kill(os.getpid(), signal.SIGKILL)",
    "abort": "import os; os.abort()",
    "at exit": "import atexit; atexit.register(print, 'last'); print('first'); atexit.register(int, 'x')",
    "a thread": "import threading, time; threading.Thread(target=lambda: (time.sleep(0.3), print('thread'))).start(); print('main')",
    "a child": "import os\nif os.fork() == 0:\n    os._exit(0)\nos.wait(); print('waited')",
    "a warning": "import warnings; warnings.warn('old', DeprecationWarning); warnings.warn('odd')",
    "standard input": "import sys; print(repr(sys.stdin.read()))",
    "other letters": "import sys; print('測試 ☃'); print('☃', file=sys.stderr)",
    "a closed pipe": "import os; os.close(1); print('nowhere')",
}


def start(kind: str, *command, cwd: Path, session: bool = False, **environment):
    """Any script, by an interpreter of its own or by the server."""
    command = [sys.executable, *map(str, command)]
    if kind == "real":
        return start_program(*command, cwd=cwd, real=True, session=session, **environment)
    return command_server.start(
        command, cwd=cwd, env={**os.environ, **INSTEAD_OF_RESNET50, **environment}, start_new_session=session
    )


def outcome(kind: str, *command, cwd: Path, session: bool = False, **environment) -> tuple[int, str, str]:
    process = start(kind, *command, cwd=cwd, session=session, **environment)
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def write_script(folder: Path, code: str) -> Path:
    path = folder / "script.py"
    path.write_text(code, encoding="utf-8")
    return path


def test_the_usual_command_is_served_and_an_unusual_one_is_not(tmp_path):
    usual, environment = [sys.executable, str(ROOT / "train_resnet_improved.py"), "--help"], dict(os.environ)
    assert command_server.shared(environment) == command_server.ENVIRONMENT
    assert command_server.can_serve(usual, environment)
    assert command_server.can_serve(usual, environment | inject("pass"))
    for command, more in (
        (usual, {"LC_ALL": "C"}),
        (usual, {"OMP_NUM_THREADS": "7"}),
        (usual, {"PYTHONPATH": str(tmp_path)}),
        ([sys.executable, "-X", "dev", *usual[1:]], {}),
        ([sys.executable, "-c", "pass"], {}),
        (["bash", *usual[1:]], {}),
        ([sys.executable], {}),
        ([sys.executable, str(ROOT / "data_loader.py")], {}),
    ):
        assert not command_server.can_serve(command, environment | more), (command, more)


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize(
    "injected", [{}, inject("import sys; print('injected', sys.argv, sys.path, __name__)")], ids=["", "injected"]
)
def test_both_find_the_same_at_their_start(tmp_path, session, injected):
    script = write_script(tmp_path, SHOW)
    command = (script, "--flag", "ünï code", "")
    real, served = (outcome(kind, *command, cwd=tmp_path, session=session, **injected) for kind in INTERPRETERS)
    assert real[1].splitlines() == served[1].splitlines()
    assert real == served and real[0] == 0, real


@pytest.mark.parametrize("end", ENDS)
def test_both_end_alike(tmp_path, end):
    script = write_script(tmp_path, ENDS[end])
    assert outcome("served", script, cwd=tmp_path) == outcome("real", script, cwd=tmp_path)


def test_random_numbers_differ_from_command_to_command(tmp_path):
    script = write_script(
        tmp_path, "import random, numpy, torch; print(random.random(), numpy.random.rand(), torch.rand(1).item())"
    )
    one, other = (outcome("served", script, cwd=tmp_path)[1].split() for _ in range(2))
    assert len({*one, *other}) == 6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_both_are_signalled_alike(tmp_path, number):
    """Alone and as a session, whose leader a command is."""
    script = write_script(tmp_path, "import subprocess\nprint('ready', flush=True)\nsubprocess.run(['sleep', '100'])")
    ends = []
    for kind in INTERPRETERS:
        process = start(kind, script, cwd=tmp_path, session=True)
        assert process.stdout.readline() == "ready\n" and process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=60)
        ends.append((process.returncode, [line for line in errors.splitlines() if script.name in line]))
        assert_nobody_is_left(process)
    assert ends[0] == ends[1] and ends[0][0] == -number


def untimed(output: str) -> list[str]:
    """The lines, but for times and for those of the way of an epoch, which are printed as time goes by."""
    return [re.sub(r"Time: [\d.]+s", "Time", line) for line in output.splitlines() if " s left" not in line]


def test_both_train_alike(finished_run, tiny_data, tmp_path):
    """A run that goes on after its first epoch: what it prints but for times, and its files to the bit."""
    outputs = []
    for kind in INTERPRETERS:
        cwd = copy_run(finished_run, tmp_path / kind, epochs=1)
        process = train("--data_path", tiny_data, *FLAGS, "--resume", cwd=cwd, real=kind == "real")
        assert process.returncode == 0, process.stderr
        files = sorted(str(path.relative_to(cwd)) for path in cwd.rglob("*"))
        outputs.append((untimed(process.stdout), process.stderr, files))
    assert outputs[0] == outputs[1]
    assert_same_run(tmp_path / "real", tmp_path / "served")


def test_both_fail_alike(finished_run, tiny_data, tmp_path):
    """A fault of the user, one of the program, injected into a step, and a signal to all processes of a run."""
    bug = at_call("torch.nn.functional.l1_loss", 2, "raise KeyError('a bug')")
    stop = at_call("torch.nn.functional.l1_loss", 2, "os.killpg(0, signal.SIGTERM)")
    for number, (flags, code) in enumerate([(["--lr", "2e-3"], {}), ([], bug), (["--num_workers", "2"], stop)]):
        ends = []
        for kind in INTERPRETERS:
            cwd = copy_run(finished_run, tmp_path / kind / str(number), epochs=1)
            command = (
                ROOT / "train_resnet_improved.py",
                *TINY_FLAGS,
                "--data_path",
                tiny_data,
                *FLAGS,
                "--resume",
                *flags,
            )
            status, output, errors = outcome(kind, *command, cwd=cwd, session=True, **code)
            ends.append((status, untimed(output), errors))
        assert ends[0] == ends[1]
        assert ends[0][0] == (1, 1, 128 + signal.SIGTERM)[number], ends[0]


def test_the_interpreter_of_shell_commands_passes_on_what_it_is_told_and_what_comes_of_it(
    tiny_data, tmp_path, forking_python
):
    """Output, errors, a status, a signal to it and one that ends the program; what needs no server has none."""
    assert run_program(forking_python, "-c", "print(1)", cwd=tmp_path).stdout == "1\n"
    command = (
        forking_python,
        ROOT / "train_resnet_improved.py",
        *TINY_FLAGS,
        "--data_path",
        tiny_data,
        "--output_dir",
        "run",
    )
    process = run_program(*command, "--weights", "none.pth", cwd=tmp_path)
    assert_one_line_error(process, "--weights none.pth")
    assert process.returncode == 1
    killed = at_call("torch.nn.functional.l1_loss", 1, "os.kill(os.getpid(), signal.SIGKILL)")
    assert run_program(*command, "--overwrite", cwd=tmp_path, **killed).returncode == -signal.SIGKILL
    process = start_program(*command, "--overwrite", "--epochs", "1000", cwd=tmp_path)
    assert any("Summary" in line for line in process.stdout), process.stderr.read()
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and errors.startswith("Stopped by SIGTERM."), errors


def test_the_server_ends_with_the_tests(tmp_path):
    script = write_script(tmp_path, "import os; print(os.getppid())")
    code = f"""
import os, subprocess, sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import command_server
process = command_server.start([sys.executable, {str(script)!r}], cwd="/", env=dict(os.environ))
print(process.communicate()[0], end="", flush=True)
os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    server, deadline = Path("/proc", killed.stdout.strip()), time.monotonic() + 10
    assert killed.returncode == -signal.SIGKILL and server.name.isdigit(), killed
    while server.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not server.exists()

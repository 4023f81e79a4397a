"""Scripts without the import of torch, which takes seconds: processes of multiprocessing's fork server.

`Script` is `subprocess.Popen([sys.executable, *command])` with pipes. `make_interpreter` writes an interpreter for
shell scripts and torchrun, which runs its scripts in the same way.
"""

import atexit
import json
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait
from multiprocessing.reduction import DupFd
from pathlib import Path

ROOT = Path(__file__).parent.parent
INJECTING = f"{ROOT / 'tests/inject'}{os.pathsep}{ROOT}"  # PYTHONPATH of a command that runs injected code
NAMES = (
    "train_resnet_improved score_images report_ablation models_resnet_improved benchmark_training tests/train_together"
).split()
SCRIPTS = [ROOT / f"{name}.py" for name in NAMES]  # those that load torch or matplotlib
TORCHRUN = ["-m", "torch.distributed.run"]
READ_AT_START = ("PYTHON", "LC_", "LANG", "OMP_", "MKL_", "CUDA_", "LD_")  # variables that only a new interpreter reads
INTERPRETER = """#!/bin/sh
code='import sys; sys.path.insert(0, "{tests}"); import forkserver; forkserver.interpret("{address}")'
exec {python} -I -S -c "$code" "$@"
"""
CONTEXT = multiprocessing.get_context("forkserver")
PRELOADED = "torch torchvision torch.distributed.run scipy.stats matplotlib.figure PIL.Image tqdm".split()
CONTEXT.set_forkserver_preload(PRELOADED)
LOCK = threading.Lock()  # starting a process polls all others, which only one thread may do at a time


def can_start(command: list[str], environment: dict[str, str]) -> bool:
    """Whether the command is a script that loads torch, in an environment that a fork can take over."""

    def start_variables(variables) -> dict[str, str]:
        return {key: variables[key] for key in variables if key.startswith(READ_AT_START) and key != "PYTHONPATH"}

    is_script = command[1:3] == TORCHRUN or len(command) > 1 and Path(command[1]) in SCRIPTS
    path_is_known = environment.get("PYTHONPATH") in (None, INJECTING)
    return (
        command[0] == sys.executable
        and is_script
        and path_is_known
        and start_variables(environment) == start_variables(os.environ)
    )


class Inherited:
    """A file descriptor that arrives in the new process as its own number there."""

    def __init__(self, number: int):
        self.number = number

    def __reduce__(self):
        descriptor = DupFd(self.number)
        return type(descriptor).detach, (descriptor,)


class Process:
    """A running script, whose standard output and standard error are the given descriptors."""

    def __init__(self, command: list[str], cwd, env: dict[str, str], streams, new_session: bool = False):
        arguments = (command, str(cwd), env, [Inherited(stream) for stream in streams], new_session)
        self._process = CONTEXT.Process(target=run, args=arguments)
        with LOCK:
            self._process.start()
        for stream in streams:
            os.close(stream)
        self.pid, self.returncode = self._process.pid, None

    def wait(self, timeout: float | None = None) -> int | None:
        wait([self._process.sentinel], timeout)
        with LOCK:
            self.returncode = self._process.exitcode
        return self.returncode

    def poll(self) -> int | None:
        return self.wait(0)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Script(Process):
    """A running script with pipes, and with the methods of subprocess.Popen that the tests use; streams are text."""

    def __init__(self, command: list[str], *, cwd, env: dict[str, str], start_new_session: bool):
        self.args = command
        (stdout, its_stdout), (stderr, its_stderr) = os.pipe(), os.pipe()
        self.stdout, self.stderr = open(stdout), open(stderr)
        super().__init__(command[1:], cwd, env, (its_stdout, its_stderr), start_new_session)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """The rest of both streams, once the script has ended."""
        pool = ThreadPoolExecutor(2)
        texts = [pool.submit(stream.read) for stream in (self.stdout, self.stderr)]
        pool.shutdown(wait=False)
        output, errors = (text.result(timeout) for text in texts)
        self.wait(timeout)
        return output, errors


def run(command: list[str], cwd: str, environment: dict[str, str], streams: list[int], new_session: bool) -> None:
    """In the new process: what `python *command` does."""
    if new_session:
        os.setsid()
    for number, name, stream in zip((1, 2), ("stdout", "stderr"), streams, strict=True):
        os.dup2(stream, number)
        os.close(stream)
        before, buffering = getattr(sys, name), 1 if number == 2 else -1
        setattr(sys, name, open(number, "w", buffering, before.encoding, before.errors, closefd=False))
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.modules["numpy"].random.seed()
    sys.modules["torch"].default_generator.seed()
    sys.argv, sys.orig_argv = command[1:] if command[0] == "-m" else command, [sys.executable, *command]
    own = (str(ROOT / "tests"), str(ROOT / "tools"))
    libraries = [path for path in sys.path if path and path != str(ROOT) and not path.startswith(own)]
    given = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = ["" if command[0] == "-m" else str(Path(command[0]).resolve().parent), *given, *libraries]
    try:
        if environment.get("PYTHONPATH") == INJECTING:
            runpy.run_path(str(ROOT / "tests/inject/sitecustomize.py"))
        if command[0] == "-m":
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(command[0], run_name="__main__")
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
    finally:
        atexit._run_exitfuncs()


def make_interpreter(folder: Path) -> str:
    """An interpreter that asks this process to run the scripts that load torch, and runs all others itself."""
    path, address = folder / "python3", folder / "socket"
    path.write_text(INTERPRETER.format(python=sys.executable, tests=ROOT / "tests", address=address))
    path.chmod(0o755)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(address))
    listener.listen()

    def accept() -> None:
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return str(path)


def answer(connection: socket.socket) -> None:
    """Run the script that an interpreter asks for; send the number of the process and its exit status."""
    with connection:
        request, streams, *_ = socket.recv_fds(connection, 200_000, 2)
        process = Process(*json.loads(request), streams)
        connection.send(b"%d" % process.pid)
        connection.send(b"%d" % process.wait())


def interpret(address: str) -> None:
    """In the interpreter: have the script run, pass signals on, and end as it does."""
    command = sys.argv[2:] if sys.argv[1:2] == ["-u"] else sys.argv[1:]  # -u is torchrun's
    if command[:2] == ["-m", "pip"]:  # the runner asks it whether the packages are there
        return
    if command[:2] != TORCHRUN and not (command and Path(command[0]).resolve() in SCRIPTS):
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(address)
        request = json.dumps((command, os.getcwd(), dict(os.environ)))
        socket.send_fds(server, [request.encode()], [1, 2])
        process = int(server.recv(100))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: os.kill(process, number))
        status = int(server.recv(100))
    if status < 0:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)

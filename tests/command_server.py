"""Commands without the import of torch, which takes seconds and half the time of the tests: forks of a process that did it.

`start` and `run` are what subprocess.Popen and subprocess.run are, for `python SCRIPT ...`: with the arguments, working folder,
environment, streams, session, signals and exit status of an interpreter of its own. test_command_server.py compares the two.

The process is started by the first command and ends with the tests. It has one thread, computes nothing and handles no
signal; it imports libraries only, never a module of this program.
"""

import atexit
import builtins
import contextlib
import functools
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import types
import warnings
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
INJECTING = f"{HERE / 'inject'}{os.pathsep}{HERE.parent}"  # the PYTHONPATH of a command that runs injected code first
PROGRAMS = [
    HERE.parent / f"{name}.py"
    for name in (
        "train_resnet_improved",
        "score_images",
        "models_resnet_improved",
        "benchmark_training",
        "tests/train_together",
    )
]
LARGEST = 200_000  # bytes of a request: arguments and environment
# Variables that a command may have otherwise than the server; torch sets the last one, where a test compiles.
THEIR_OWN = {"PYTHONPATH", "INJECT", "SMALL_CNN", "PYTEST_CURRENT_TEST", "TORCHINDUCTOR_CACHE_DIR"}


def shared(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in THEIR_OWN}


ENVIRONMENT = shared(os.environ)  # of the server


# The tests' side


class Reader(threading.Thread):
    """Reads a stream to its end, in a thread of its own: a command that waits for one pipe to be read is not waited for."""

    def __init__(self, stream: io.TextIOWrapper):
        super().__init__(daemon=True)
        self._stream, self.text = stream, ""
        self.start()

    def run(self) -> None:
        with self._stream:
            self.text = self._stream.read()


class Served:
    """A command that runs, with what tests use of subprocess.Popen; its streams are text."""

    def __init__(self, command: list[str], reply: socket.socket, stdout: int, stderr: int):
        self.args, self._reply = command, reply
        self.stdout, self.stderr = open(stdout), open(stderr)
        self._readers: list[Reader] = []
        self.returncode: int | None = None
        self.pid = int(self._hear(b"runs"))

    def _hear(self, expected: bytes) -> bytes:
        word, _, number = self._reply.recv(100).partition(b" ")
        assert word == expected, f"{self.args}: the command server says {word!r} instead of {expected!r}"
        return number

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._reply.settimeout(timeout)
            try:
                status = int(self._hear(b"ended"))
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired(self.args, timeout) from None
            self.returncode = os.waitstatus_to_exitcode(status)
            self._reply.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What is left of both streams, once the command has ended; may be repeated, as after a timeout."""
        if not self._readers:
            self._readers = [Reader(self.stdout), Reader(self.stderr)]
        for reader in self._readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout)
        self.wait(timeout)
        return self._readers[0].text, self._readers[1].text

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def can_serve(command: list[str], environment: dict[str, str]) -> bool:
    """Whether it is a program that loads torch, by the tests' interpreter, in an environment that a fork can take over.

    Other variables may be read while Python starts or a library is loaded. Other programs start sooner than a fork ends.
    """
    return (
        hasattr(os, "pidfd_open")  # Linux
        and command[0] == sys.executable
        and len(command) > 1
        and Path(command[1]) in PROGRAMS
        and shared(environment) == ENVIRONMENT
        and environment.get("PYTHONPATH") in (None, INJECTING)
    )


def start(command: list[str], *, cwd: Path, env: dict[str, str], start_new_session: bool = False) -> Served:
    """The command with pipes for standard output and standard error; its first word, the interpreter, is the server's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    (stdout, their_stdout), (stderr, their_stderr) = os.pipe(), os.pipe()
    request = {"command": command[1:], "cwd": str(cwd), "environment": env, "new_session": start_new_session}
    socket.send_fds(server(), [json.dumps(request).encode()], [theirs.fileno(), 0, their_stdout, their_stderr])
    theirs.close()
    os.close(their_stdout)
    os.close(their_stderr)
    return Served(command, ours, stdout, stderr)


_starting = threading.Lock()


def server() -> socket.socket:
    """The socket that the server takes requests from; it ends when nobody holds the socket any more."""
    with _starting:
        return _start_server()


@functools.cache
def _start_server() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, __file__, str(theirs.fileno())]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=ENVIRONMENT, pass_fds=[theirs.fileno()], **streams)
    theirs.close()

    @atexit.register
    def end() -> None:
        ours.close()
        process.wait()

    return ours


# The server's side


def main(descriptor: int) -> None:
    """Serve; goes on as the command in each process that is forked for one."""
    sys.path.remove(str(HERE))
    for name in ("torch", "torchvision", "numpy", "scipy.stats", "PIL.Image", "tqdm"):
        importlib.import_module(name)
    gc.freeze()  # else each fork copies the memory of all objects when it takes them down
    request, descriptors = serve(socket.socket(fileno=descriptor))
    become(request, descriptors)
    execute(request["command"][0])


def serve(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Fork for every request and tell how each command ended; returns the request in the fork, and nowhere else."""
    waiting = select.poll()
    waiting.register(control, select.POLLIN)
    running: dict[int, tuple[int, int]] = {}  # the process, and where its end is told
    while True:
        for descriptor, _ in waiting.poll():
            if descriptor in running:
                waiting.unregister(descriptor)
                tell_end(*running.pop(descriptor))
                os.close(descriptor)
                continue
            content, descriptors, *_ = socket.recv_fds(control, LARGEST, 4)
            if not content:
                os._exit(0)
            with warnings.catch_warnings():  # of threads: those of a linear algebra library, which sees to forks
                warnings.simplefilter("ignore", DeprecationWarning)
                process = os.fork()
            if process == 0:
                control.close()
                return json.loads(content), descriptors
            reply, *streams = descriptors
            for stream in streams:
                os.close(stream)
            end = os.pidfd_open(process)
            running[end] = process, reply
            waiting.register(end, select.POLLIN)


def tell_end(process: int, reply: int) -> None:
    _, status = os.waitpid(process, 0)
    with contextlib.suppress(BrokenPipeError):  # the test did not wait
        os.write(reply, b"ended %d" % status)
    os.close(reply)


def become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Take over what a new interpreter finds at its start, and do what it does before it runs the script."""
    reply, *streams = descriptors
    if request["new_session"]:
        os.setsid()
    for number, (stream, name, mode) in enumerate(zip(streams, ("stdin", "stdout", "stderr"), "rww", strict=True)):
        os.dup2(stream, number)
        open_stream(number, name, mode)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.modules["numpy"].random.seed()
    sys.modules["torch"].default_generator.seed()
    script, *_ = sys.argv = request["command"]
    sys.orig_argv = [sys.executable, *sys.argv]
    os.write(reply, b"runs %d" % os.getpid())
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    importlib.invalidate_caches()
    if os.environ.get("PYTHONPATH") == INJECTING:
        sys.modules.pop("sitecustomize", None)
        importlib.import_module("sitecustomize")
    sys.path.insert(0, str(Path(script).resolve().parent))


def open_stream(number: int, name: str, mode: str) -> None:
    """As Python opens its standard streams; those of the server know that other files are behind them."""
    before = getattr(sys, name)
    stream = open(number, mode, encoding=before.encoding, errors=before.errors, newline="\n", closefd=False)
    stream.buffer.raw.name = f"<{name}>"
    stream.reconfigure(line_buffering=before.line_buffering)
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


def execute(script: str) -> None:
    """As `python SCRIPT`; an exception is shown without the frames of this file."""
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    vars(module).update(
        __file__=script,
        __builtins__=builtins,
        __cached__=None,
        __annotations__={},
        __loader__=SourceFileLoader("__main__", script),
    )
    try:
        exec(compile(Path(script).read_bytes(), script, "exec", dont_inherit=True), vars(module))
    except SystemExit:
        raise
    except BaseException as error:
        trace = error.__traceback__.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        sys.excepthook = lambda *_: None
        raise


if __name__ == "__main__":
    main(int(sys.argv[1]))

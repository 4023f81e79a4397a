"""An interpreter for shell commands and torchrun, whose programs that load torch are forks of the command server.

It stands where a command takes an interpreter from: PYTHON of the runner, PYTHON_EXEC of torchrun. A program that loads torch
is sent to the server, and this process passes on its signals and its end; all else is run by the real interpreter.
"""

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import command_server

START = """#!/bin/sh
exec {python} -I -S -c 'import sys; sys.path.insert(0, "{here}"); import served_python; served_python.main("{address}")' "$@"
"""


# The tests' side


class Relay(threading.Thread):
    """Passes what is asked for at an address on to the command server."""

    def __init__(self, address: Path):
        super().__init__(daemon=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(address))
        self._listener.listen()
        self.start()

    def run(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                content, descriptors, *_ = socket.recv_fds(connection, command_server.LARGEST, 4)
                socket.send_fds(command_server.server(), [content], descriptors)
            for descriptor in descriptors:
                os.close(descriptor)


def make(folder: Path) -> str:
    """The interpreter in a folder; the real one where there is no command server."""
    if not hasattr(os, "pidfd_open"):
        return sys.executable
    Relay(folder / "relay")
    path = folder / "python3"
    path.write_text(START.format(python=sys.executable, here=Path(__file__).parent, address=folder / "relay"))
    path.chmod(0o755)
    return str(path)


# The interpreter's side


def main(address: str) -> None:
    words = sys.argv[1:]
    command = words[1:] if words[:1] == ["-u"] else words  # torchrun's; a program flushes what it prints when it ends
    if not command or Path(command[0]).resolve() not in command_server.PROGRAMS:
        os.execv(sys.executable, [sys.executable, *words])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    request = {"command": command, "cwd": os.getcwd(), "environment": dict(os.environ), "new_session": False}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as relay:
        relay.connect(address)
        socket.send_fds(relay, [json.dumps(request).encode()], [theirs.fileno(), 0, 1, 2])
    theirs.close()
    process = int(ours.recv(100).split()[1])
    handle(lambda number, _: os.kill(process, number))
    status = os.waitstatus_to_exitcode(int(ours.recv(100).split()[1]))
    if status < 0:
        handle(signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


def handle(action) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, action)

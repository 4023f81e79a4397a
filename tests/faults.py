"""What the tests of faults share: injected code, copies of a run, and the comparison of two runs."""

import functools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY_FLAGS, start_program
from forkserver import INJECTING

NAME = "resnet_improved_ms_att"  # of the checkpoints of the fixture finished_run
FLAGS = "--use_multiscale --use_attention --save_model --epochs 2 --lr 1e-3 --precision fp32 --output_dir run".split()
COMMAND = (sys.executable, ROOT / "train_resnet_improved.py", *TINY_FLAGS, "--precision", "fp32", "--output_dir", "run")
CLONE_NEWNS = 0x00020000  # <linux/sched.h>: a namespace of mounts
SMALL_CNN = "import small_cnn; small_cnn.BACKBONES['small'] = small_cnn.ROW"  # injected: one more backbone

# Injected: SIGKILL when _last.pth has got its name and no other file has been written.
KILLED_AFTER_LAST = """
import os, signal
replace = os.replace
def killed_after(source, target):
    replace(source, target)
    if str(target).endswith("_last.pth"):
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = killed_after
"""


# Injected: a copy of the run folder as it is after each epoch, in after_1, after_2 and so on.
SNAPSHOTS = """
import glob, os, shutil
replace_file = os.replace
def with_snapshot(source, target):
    is_next = str(target).endswith("_last.pth") and os.path.exists(target)
    if is_next or os.path.basename(target) == "result.json":
        folder, hidden = f"after_{len(glob.glob('after_*')) + 1}", shutil.ignore_patterns(".*")
        shutil.copytree(os.path.dirname(target), folder, copy_function=os.link, ignore=hidden)
    replace_file(source, target)
os.replace = with_snapshot
"""


class Malicious:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, marker="executed"):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


def start(*flags, cwd: Path, **environment):
    """A run in a session of its own, with every process that it starts."""
    cwd.mkdir(exist_ok=True)
    return start_program(*COMMAND, *flags, cwd=cwd, **environment)


def inject(code: str) -> dict[str, str]:
    """The environment of a command that runs `code` before its own."""
    return {"INJECT": code, "PYTHONPATH": INJECTING}


def at_call(function: str, number: int, action: str) -> dict[str, str]:
    """Run `action` at the given call of a function, module.name or module.Class.name."""
    owner, name = function.rsplit(".", 1)
    return inject(f"""
import importlib, os, signal, time
def find(path):
    try:
        return importlib.import_module(path)
    except ImportError:
        return getattr(find(path.rpartition(".")[0]), path.rpartition(".")[2])
owner = find({owner!r})
original, calls = getattr(owner, {name!r}), []
def counted(*arguments, **keywords):
    calls.append(1)
    if len(calls) == {number}:
        {action}
    return original(*arguments, **keywords)
setattr(owner, {name!r}, counted)
""")


def copy_run(finished: Path, target: Path, *, epochs: int = 2) -> Path:
    """A copy of the finished run as it was after so many epochs; weights are hard links."""

    def copy(source: str, copied: str) -> None:
        (os.link if source.endswith(".pth") else shutil.copyfile)(source, copied)

    shutil.copytree(finished / f"after_{epochs}", target / "run", copy_function=copy)
    return target


def files_below(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Inode, size and time of every file: one of them changes when the file is written."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns)
        for path in paths
    }


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if "second" not in key}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def same_bits(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_bits(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same_bits, one, other))
    return one == other


def assert_same_run(one: Path, other: Path, name: str = NAME) -> None:
    """Two working folders hold the same finished run to the bit, apart from times, and no temporary file."""
    folders = [one, other]
    for file in ("predictions_val.csv", "predictions_test.csv"):
        assert (one / "run" / file).read_text() == (other / "run" / file).read_text(), file
    for file in ("result.json", "metrics.jsonl"):
        texts = [(folder / "run" / file).read_text() for folder in folders]
        lines = [text.splitlines() if file.endswith("l") else [text] for text in texts]
        assert without_times(list(map(json.loads, lines[0]))) == without_times(list(map(json.loads, lines[1]))), file
    saved = [torch.load(folder / f"run/{name}_best.pth", weights_only=True) for folder in folders]
    for key in ("model", "epoch"):
        assert same_bits(saved[0][key], saved[1][key]), key
    for folder in folders:
        assert [path.name for path in (folder / "run").glob("*.pth")] == [f"{name}_best.pth"]
    assert [*one.rglob("*.tmp"), *other.rglob("*.tmp")] == []


def is_running(session: int) -> bool:
    """Whether a process of the session is left."""
    return subprocess.run(["pgrep", "-s", str(session)], capture_output=True).returncode == 0


def assert_nobody_is_left(*sessions: int) -> None:
    """Every process of the sessions ends within 30 seconds."""
    deadline = time.monotonic() + 30
    while any(map(is_running, sessions)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, sessions))


@functools.cache
def can_mount() -> bool:
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


def mounted(mount: str, code: str = "") -> dict[str, str]:
    """The environment of a command with a private mount in its working folder, which then runs `code`."""
    if not can_mount():
        pytest.skip("mounting needs root: unshare -m mount failed")
    return inject(f"""
import ctypes, subprocess
if ctypes.CDLL(None).unshare({CLONE_NEWNS}):
    raise SystemExit("no mounts of its own")
for command in ("mount --make-rprivate /", {mount!r}):
    subprocess.run(command.split(), check=True)
{code}""")

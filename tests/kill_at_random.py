#!/usr/bin/env python3
"""Kill a run at random moments, resume it, and compare it with the uninterrupted run, to the bit.

    python3 tests/kill_at_random.py                 # 20 kills, about 4 minutes on 2 cores
    python3 tests/kill_at_random.py --kills 2       # as many as the test suite

A third of the kills strike at any moment, a third inside the second epoch's checkpoint, a third inside the first's.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from conftest import make_data, start_program  # noqa: E402
from faults import COMMAND, assert_same_run  # noqa: E402

NAME = "resnet_improved_ss_noatt"


def start(data: Path, cwd: Path, *flags: str, real: bool = False):
    cwd.mkdir(exist_ok=True)
    flags = ("--data_path", data, "--epochs", "2", "--save_model", *flags)
    return start_program(*COMMAND, *flags, cwd=cwd, real=real, session=False)


def finish(process) -> str:
    output, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, ""), output + errors
    return output


def kill(process, cwd: Path, delay: float, inside_write_of: int) -> str:
    """SIGKILL `delay` seconds after the start of the run's own work, or of that epoch's checkpoint; says what it met."""
    process.stdout.readline()  # printed once torch is loaded
    checkpoints = cwd / "checkpoints"
    for found in ("*_last.pth",) * (inside_write_of == 2) + (".*_last.pth.*.tmp",) * (inside_write_of > 0):
        while not list(checkpoints.glob(found)) and process.poll() is None:
            time.sleep(0.001)
    time.sleep(delay)
    writing = ", ".join(path.name for path in checkpoints.glob(".*.tmp"))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return f"writing {writing}" if writing else "writing no checkpoint"


def check_one(data: Path, whole: Path, cwd: Path, delay: float, inside_write_of: int) -> str:
    """One killed run, its resume and the comparison; what happened, in words."""
    moment = kill(start(data, cwd), cwd, delay, inside_write_of)
    if (cwd / "run/result.json").exists():
        shutil.rmtree(cwd)
        return check_one(data, whole, cwd, delay / 2, inside_write_of)
    resumable = (cwd / "run/config.json").exists() and list((cwd / "checkpoints").glob(f"{NAME}_last*.pth"))
    output = finish(start(data, cwd, "--resume" if resumable else "--overwrite"))
    assert bool(resumable) == ("Resuming after epoch" in output), output
    assert_same_run(whole, cwd, NAME)
    return f"{delay:.2f} s, {moment}; {'resumed' if resumable else 'started again: no epoch was whole'}; equal"


def survived(kills: int, seed: int = 0) -> Iterator[str]:
    """What each of so many kills met; the run that none meets is by an interpreter of its own."""
    generator = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        data, whole, cwd = (Path(folder) / name for name in ("koniq", "whole", "killed"))
        make_data(data)
        process = start(data, whole, real=True)
        process.stdout.readline()
        begin = time.monotonic()
        finish(process)
        seconds = time.monotonic() - begin
        for number in range(1, kills + 1):
            inside_write_of = (0, 2, 1)[(number - 1) % 3]
            delay = generator.uniform(0, 0.2 if inside_write_of else seconds)
            yield f"kill {number}: {check_one(data, whole, cwd, delay, inside_write_of)}"
            shutil.rmtree(cwd)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for line in survived(options.kills, options.seed):
        print(line, flush=True)
    print(f"{options.kills} kills, each survived")


if __name__ == "__main__":
    main()

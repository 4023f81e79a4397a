#!/usr/bin/env python3
"""Kill a run at random moments, resume it, and compare it with the uninterrupted run to the bit.

    python3 tools/kill_at_random.py                 # 20 kills: about 4 minutes on 2 cores
    python3 tools/kill_at_random.py --kills 2       # as many as in the test suite

One third of the kills come at any moment, one third while the checkpoint of the second epoch is written, and one third
while that of the first epoch is written.
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from conftest import make_data, start_program  # noqa: E402
from faults import COMMAND, assert_same_run  # noqa: E402

NAME = "resnet_improved_ss_noatt"


def start(data: Path, cwd: Path, *flags: str):
    cwd.mkdir(exist_ok=True)
    flags = ("--data_path", data, "--epochs", "2", "--save_model", *flags)
    return start_program(*COMMAND, *flags, cwd=cwd, session=False)


def finish(process) -> str:
    output, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, ""), output + errors
    return output


def kill(process, cwd: Path, delay: float, epoch: int) -> str:
    """SIGKILL `delay` seconds after the first line of output (epoch 0) or after the start of an epoch's checkpoint."""
    process.stdout.readline()
    checkpoints = cwd / "run"
    for pattern in ("*_last.pth",) * (epoch == 2) + (".*_last.pth.*.tmp",) * (epoch > 0):
        while not list(checkpoints.glob(pattern)) and process.poll() is None:
            time.sleep(0.001)
    time.sleep(delay)
    writing = ", ".join(path.name for path in checkpoints.glob(".*.tmp"))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return f"writing {writing or 'no checkpoint'}"


def check_one(data: Path, whole: Path, cwd: Path, delay: float, epoch: int) -> str:
    """Kill a run, resume it and compare it; returns a description."""
    moment = kill(start(data, cwd), cwd, delay, epoch)
    if (cwd / "run/result.json").exists():
        shutil.rmtree(cwd)
        return check_one(data, whole, cwd, delay / 2, epoch)
    can_resume = (cwd / "run/config.json").exists() and list((cwd / "run").glob(f"{NAME}_last*.pth"))
    output = finish(start(data, cwd, "--resume" if can_resume else "--overwrite"))
    assert bool(can_resume) == ("Resuming after epoch" in output), output
    assert_same_run(whole, cwd, NAME)
    return f"{delay:.2f} s, {moment}; {'resumed' if can_resume else 'started again, as no epoch was complete'}; equal"


def survive(kills: int, seed: int = 0) -> Iterator[str]:
    """A description of each kill."""
    generator = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        data, whole, cwd = (Path(folder) / name for name in ("koniq", "whole", "killed"))
        make_data(data)
        process = start(data, whole)
        process.stdout.readline()
        begin = time.monotonic()
        finish(process)
        seconds = time.monotonic() - begin
        for number in range(1, kills + 1):
            epoch = (0, 2, 1)[(number - 1) % 3]
            delay = generator.uniform(0, 0.2 if epoch else seconds)
            yield f"kill {number}: {check_one(data, whole, cwd, delay, epoch)}"
            shutil.rmtree(cwd)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for line in survive(options.kills, options.seed):
        print(line, flush=True)


if __name__ == "__main__":
    main()

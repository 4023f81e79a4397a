#!/usr/bin/env python3
"""Interrupt the commands of the README at random moments and continue only with the command that they print.

    nice python3 tools/interrupt_at_random.py                             # 20 interruptions, on small data
    nice python3 tools/interrupt_at_random.py --commands run --interruptions 3
    nice python3 tools/interrupt_at_random.py --commands whole_demo       # the demo as it is: minutes for each

A command is interrupted, and the command that it prints too, until one ends before its moment comes. The results must
then equal those of an undisturbed command, except for times. Moments and signals depend on --seed.
"""

import argparse
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from faults import without_times  # noqa: E402

RUNNER = f"bash {shlex.quote(str(ROOT / 'run_resnet_ablation.sh'))}"
SAME = "--precision fp32"  # auto measures which precision is faster, and may choose either
TINY = (
    f"--data_path ../data --weights none --patch_size 32 --batch_size 8 --train_patch_num 2 --test_patch_num 2 {SAME}"
)
COMMANDS = {
    "ablation": f"{RUNNER} {TINY} --epochs 2",
    "run": f'"$PYTHON" {shlex.quote(str(ROOT / "train_resnet_improved.py"))} {TINY} --epochs 3 --save_model',
    "demo": f"{RUNNER} --demo --epochs 1 --train_patch_num 1 --test_patch_num 1 {SAME}",
    "whole_demo": f"{RUNNER} --demo {SAME}",
}
SIGNALS = ("SIGINT", "SIGTERM", "Ctrl-C")  # Ctrl-C in a terminal is SIGINT for the whole process group
GO_ON = "To go on: "


def start(command: str, cwd: Path) -> subprocess.Popen:
    """Start the command in a new session, and so in a new process group."""
    cwd.mkdir(exist_ok=True)
    return subprocess.Popen(
        ["bash", "-c", f"exec env {command}"],
        cwd=cwd,
        env={"PYTHON": sys.executable, **os.environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def interrupt(process: subprocess.Popen, kind: str) -> None:
    if kind == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.Signals[kind])


def results(cwd: Path) -> list[dict]:
    """The content of every result.json, except for times."""
    return [without_times(json.loads(path.read_text())) for path in sorted(cwd.glob("logs/**/result.json"))]


def survive(name: str, folder: Path, interruptions: int, generator: random.Random) -> Iterator[str]:
    """Yield a line for each interruption, and for each command that ended with the results of the undisturbed one.

    Raises:
        AssertionError: a command failed, did not print how to go on, or ended with other results.
    """
    cwd, begin = folder / f"{name}_undisturbed", time.monotonic()
    process = start(COMMANDS[name], cwd)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    expected, seconds, attempt = results(cwd), time.monotonic() - begin, 0
    yield f"{name}: {len(expected)} results in {seconds:.1f} s without interruption"
    while interruptions:
        attempt += 1
        cwd, command = folder / f"{name}_{attempt}", COMMANDS[name]
        while True:
            moment, kind = generator.uniform(0, seconds), generator.choice(SIGNALS)
            process = start(command, cwd)
            try:
                _, errors = process.communicate(timeout=moment if interruptions else None)
            except subprocess.TimeoutExpired:
                interrupt(process, kind)
                _, errors = process.communicate()
                interruptions -= 1
                yield f"{name} {attempt}: {kind} after {moment:.2f} s"
            printed = [line.partition(GO_ON)[2] for line in errors.splitlines() if GO_ON in line]
            if process.returncode == 0 or (not printed and results(cwd)):  # the signal came after the last file
                break
            assert len(printed) <= 1 and ": error:" not in errors, f"{command}\n{errors}"
            assert printed or "Stopped by" not in errors, f"{command}\n{errors}"
            command = printed[0] if printed else command  # the same one where the interpreter was still starting
        assert results(cwd) == expected, f"{cwd}: other results than without interruption"
        yield f"{name} {attempt}: {len(expected)} results, equal to those without interruption"


def make_data(folder: Path) -> None:
    """The images of the small commands, which run in folders beside it."""
    command = [sys.executable, ROOT / "demo_dataset.py", "--output", folder / "data", "--images", "16"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main(argv: list[str] | None = None) -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it, as do its children
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=["ablation", "run", "demo"])
    parser.add_argument("--interruptions", type=int, default=20, help="of all commands together; default: 20")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    generator = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder))
        for number, name in enumerate(options.commands):
            share = (options.interruptions + number) // len(options.commands)
            for line in survive(name, Path(folder), share, generator):
                print(line, flush=True)
    print(f"{options.interruptions} interruptions: all results are equal to those without interruption")
    return 0


if __name__ == "__main__":
    sys.exit(main())

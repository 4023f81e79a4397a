"""Rates in patches per second: trials of everything that is compared take turns, so that a drift of the machine meets all."""

import contextlib
import io
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from iqa.benchmark.arithmetic import MatrixProduct, wait_for

RATES = ("FULL", "COMPUTE", "INPUT", "CUT", "LIMIT", "habit")
RATIOS = ("FULL / LIMIT", "FULL / COMPUTE", "FULL / habit")


class Work(NamedTuple):
    """What is measured: training or evaluation, by the functions of a real run.

    Args:
        make_loader: number of steps -> a loader of so many batches.
        run: puts a loader's batches through the network.
        habit: measures one patch per forward pass; returns patches/s.
        batch: patches in one.
        flop: of one patch.
    """

    make_loader: Callable[[int], Any]
    run: Callable[[Any], None]
    habit: Callable[[], float]
    batch: int
    flop: int


class First:
    """The first `steps` batches of a plan, over and over."""

    def __init__(self, plan, steps: int):
        self.batches, self.batch_size = list(itertools.islice(plan, steps)), plan.batch_size

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


class Repeated:
    """A loader of one batch that lies on the device already."""

    def __init__(self, loader, steps: int = 2):
        self.item, self.steps = next(iter(loader)), steps
        self.device, self.plan = loader.device, First(loader.plan, 1)

    def __len__(self):
        return self.steps

    def __iter__(self):
        return itertools.repeat(self.item, self.steps)


def measure(work: Work, product: MatrixProduct, *, trials: int, seconds: float) -> dict:
    """Mean, deviation and trials of every rate, and of the ratios between rates of one trial.

    Args:
        seconds: of each trial, about.
    """
    first = work.make_loader(2)
    warm_up = timed(lambda: finish(work.run, Repeated(first)))
    once = timed(lambda: finish(work.run, Repeated(first))) / 2
    steps = max(1, round(seconds / once))
    loader, repeated, patches = work.make_loader(steps), Repeated(first, steps), steps * work.batch
    finish(exhaust, loader)  # starts the workers, touches the pages
    measured = {
        "CUT": lambda: patches / timed(lambda: exhaust(loader.cut)),
        "INPUT": lambda: patches / timed(lambda: finish(exhaust, loader)),
        "COMPUTE": lambda: patches / timed(lambda: finish(work.run, repeated)),
        "FULL": lambda: patches / timed(lambda: finish(work.run, loader)),
        "LIMIT": lambda: product.rate() / work.flop,
        "habit": work.habit,
    }
    rows = [{name: rate() for name, rate in measured.items()} for _ in range(trials)]
    return {
        "batch_size": work.batch,
        "steps_per_trial": steps,
        "warm_up_seconds": round(warm_up, 2),
        "flop_per_patch": work.flop,
        **{name: spread([row[name] for row in rows]) for name in RATES},
        **{
            f"{a} / {b}": spread([row[a] / row[b] for row in rows]) for a, b in (ratio.split(" / ") for ratio in RATIOS)
        },
    }


def exhaust(loader) -> None:
    for _ in loader:
        pass


def finish(run: Callable, loader) -> None:
    """Run to the end of the device's queue; progress lines are not part of the measurement's output."""
    with contextlib.redirect_stdout(io.StringIO()):
        run(loader)
    wait_for(loader.device)


def timed(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def spread(values: list[float]) -> dict:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "sd": deviation, "trials": values}

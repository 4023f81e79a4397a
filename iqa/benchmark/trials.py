"""Rates in patches per second, measured in turn, so that a drift of the machine affects all of them."""

import contextlib
import io
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from iqa.benchmark.arithmetic import MatrixProduct
from iqa.training.precision import wait_for

SHARED = ("INPUT", "LIMIT", "habit")  # rates that do not depend on the way
WARM_UP = 6  # steps: a graph is captured in the fourth


@dataclass(frozen=True)
class Work:
    """Training or evaluation, by the functions of a real run.

    Args:
        make_loader: number of batches -> a loader of that many batches.
        ways: name -> function that runs the network on the batches of a loader.
        habit: measures one patch per forward pass; returns patches/s.
        batch: number of patches per batch.
        flop: number of operations per patch.
    """

    make_loader: Callable[[int], Any]
    ways: dict[str, Callable[[Any], None]]
    habit: Callable[[], float]
    batch: int
    flop: int


class First:
    """The first batches of a plan, in every epoch."""

    def __init__(self, plan, count: int):
        self.batches, self.batch_size = list(itertools.islice(plan, count)), plan.batch_size

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


class Repeated:
    """A loader of one batch, which is on the device already."""

    def __init__(self, item, loader, count: int):
        self.item, self.count = item, count
        self.device, self.plan = loader.device, First(loader.plan, 1)

    def __len__(self):
        return self.count

    def __iter__(self):
        return itertools.repeat(self.item, self.count)


def measure(work: Work, product: MatrixProduct, *, trials: int, seconds: float) -> dict:
    """Mean, deviation and trials of the shared rates, and of FULL, COMPUTE and their ratios for each way.

    Args:
        seconds: approximate time of a trial of the slowest way.
    """
    one = work.make_loader(1)
    item = next(iter(one))
    warm_up = {
        name: timed(lambda run=run: finish(run, Repeated(item, one, WARM_UP))) for name, run in work.ways.items()
    }
    once = max(timed(lambda run=run: finish(run, Repeated(item, one, 2))) / 2 for run in work.ways.values())
    steps = max(1, round(seconds / once))
    loader, repeated, patches = work.make_loader(steps), Repeated(item, one, steps), steps * work.batch
    finish(exhaust, loader)  # starts the workers and allocates memory
    trial_rates = []
    for _ in range(trials):
        rates = {
            "INPUT": patches / timed(lambda: finish(exhaust, loader)),
            "LIMIT": product.rate() / work.flop,
            "habit": work.habit(),
        }
        for name, run in work.ways.items():
            compute = patches / timed(lambda run=run: finish(run, repeated))
            full = patches / timed(lambda run=run: finish(run, loader))
            against = {"COMPUTE": compute, "LIMIT": rates["LIMIT"], "habit": rates["habit"]}
            ratios = {f"FULL / {other}": full / rate for other, rate in against.items()}
            rates[name] = {"FULL": full, "COMPUTE": compute, **ratios}
        trial_rates.append(rates)
    ways = {
        name: {"warm_up_seconds": round(warm_up[name], 2)}
        | {row: spread([rates[name][row] for rates in trial_rates]) for row in trial_rates[0][name]}
        for name in work.ways
    }
    return {
        "batch_size": work.batch,
        "steps_per_trial": steps,
        "flop_per_patch": work.flop,
        **{name: spread([rates[name] for rates in trial_rates]) for name in SHARED},
        "ways": ways,
    }


def exhaust(loader) -> None:
    for _ in loader:
        pass


def finish(run: Callable, loader) -> None:
    """Run and wait for the device to finish, without progress lines."""
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

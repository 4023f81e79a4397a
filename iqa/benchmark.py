"""Rates of the ways to train and to evaluate, in patches per second, and the time that an ablation takes at them."""

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from iqa.training.precision import wait_for

RUNS = 3  # variants of the ablation, 10 epochs each
TRAINING_PATCHES = RUNS * 10 * 7058 * 25  # images x patches
EVALUATION_PATCHES = RUNS * 10 * (1000 + 2015) * 25
KONIQ_IMAGES = 10_073
WARM_UP = 6  # steps: a graph is captured in the fourth
SIDES = {"cpu": (512, 1024, 2048, 4096), "cuda": (4096, 8192, 16384)}  # sides of the multiplied square matrices


@dataclass(frozen=True)
class Way:
    """One way to train or to evaluate, with its rates in patches per second.

    Args:
        kind: "training" or "evaluation".
        limit: the rate if every operation were part of the largest matrix product.
        input: the rate of the input alone in each trial; all ways of a kind share it.
        full, compute: the rates in each trial, with the input and without.
    """

    kind: str
    name: str
    batch_size: int
    warm_up_seconds: float
    limit: float
    input: list[float]
    full: list[float] = field(default_factory=list)
    compute: list[float] = field(default_factory=list)


class Batches(list):
    """Batches with the attributes of a plan or of a loader."""

    def __init__(self, batches, **attributes):
        super().__init__(batches)
        vars(self).update(attributes)


def measure(
    kind: str,
    runs: dict[str, Callable],
    make_loader: Callable[[int], Any],
    *,
    limit: float,
    trials: int,
    seconds: float,
) -> list[Way]:
    """Measure all ways of a kind in turn, so that a drift of the machine affects all of them.

    Args:
        runs: name -> function of a real run that runs the network on the batches of a loader.
        make_loader: number of batches -> a loader of that many batches.
        seconds: approximate time of a trial of the slowest way.
    """
    inputs, batch = next(iter(make_loader(1)))
    device, size = inputs.device, len(inputs)

    def repeated(steps: int) -> Batches:
        return Batches([(inputs, batch)] * steps, device=device, plan=Batches([batch] * steps, batch_size=size))

    alone: list[float] = []
    ways = [Way(kind, name, size, timed(device, run, make_loader(WARM_UP)), limit, alone) for name, run in runs.items()]
    steps = max(1, round(2 * seconds / max(timed(device, run, repeated(2)) for run in runs.values())))
    loader, patches = make_loader(steps), steps * size
    timed(device, exhaust, loader)  # starts the workers and allocates memory
    for _ in range(trials):
        alone.append(patches / timed(device, exhaust, loader))
        for way in ways:
            way.compute.append(patches / timed(device, runs[way.name], repeated(steps)))
            way.full.append(patches / timed(device, runs[way.name], loader))
    return ways


def exhaust(loader) -> None:
    for _ in loader:
        pass


def timed(device: torch.device, run: Callable, *arguments) -> float:
    """Seconds until the device has finished. Progress and warnings go to standard error."""
    wait_for(device)
    start = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr):
        run(*arguments)
    wait_for(device)
    return time.monotonic() - start


def matrix_product_rate(device: torch.device, precision: str, seconds: float) -> float:
    """Peak rate of square matrix products in the precision of a run, in operations per second.

    Args:
        seconds: approximate time of a measurement; sizes above one whose product takes longer are skipped.
    """
    dtype, rates = torch.bfloat16 if precision == "bf16" else torch.float32, []
    for side in SIDES[device.type]:
        a, b, c = (torch.rand(side, side, dtype=dtype, device=device) for _ in range(3))

        def multiply(count: int, a=a, b=b, c=c) -> None:
            for _ in range(count):
                torch.mm(a, b, out=c)

        multiply(1)  # allocates memory and loads the library
        once = timed(device, multiply, 1)
        count = max(1, round(seconds / once))
        rates.append(2 * side**3 * count / timed(device, multiply, count))
        if once > seconds:
            break
    return max(rates)


def ablation_minutes(ways: list[Way], images_per_second: float) -> dict[str, float]:
    """Minutes of the ablation on KonIQ-10k with the recipe's numbers of patches, for each way of training.

    They include the warm-up of every run, which compiles, and the cache build.
    """
    by_name = {(way.kind, way.name): way for way in ways}
    minutes = {}
    for training in (way for way in ways if way.kind == "training"):
        evaluation = by_name["evaluation", "compiled" if "compiled" in training.name else "eager"]
        warm_up = training.warm_up_seconds + evaluation.warm_up_seconds
        if training.name == "compiled graph":  # it captures the step that "compiled" has compiled
            warm_up += by_name["training", "compiled"].warm_up_seconds
        seconds = TRAINING_PATCHES / np.mean(training.full) + EVALUATION_PATCHES / np.mean(evaluation.full)
        minutes[training.name] = float(seconds + RUNS * warm_up + KONIQ_IMAGES / images_per_second) / 60
    return minutes


def print_table(ways: list[Way], minutes: dict[str, float]) -> None:
    """Print a table with a column for each way."""
    eager = {way.kind: np.mean(way.compute) for way in ways if way.name == "eager"}
    rows = {
        "patches/s": lambda way: f"{way.kind}, {way.name}",
        "---": lambda way: "---",
        "FULL": lambda way: spread(way.full),
        "COMPUTE": lambda way: spread(way.compute),
        "INPUT": lambda way: spread(way.input),
        "LIMIT": lambda way: f"{way.limit:,.1f}",
        "FULL / COMPUTE": lambda way: spread(np.divide(way.full, way.compute), digits=3),
        "FULL / LIMIT": lambda way: spread(np.divide(way.full, way.limit), digits=3),
        "COMPUTE / eager": lambda way: f"{np.mean(way.compute) / eager[way.kind]:.2f}",
        "warm-up": lambda way: f"{way.warm_up_seconds:.1f} s",
        "ablation, projected": lambda way: f"{minutes[way.name]:.0f} min" if way.kind == "training" else "",
    }
    for name, cell in rows.items():
        print(f"| {name} | {' | '.join(map(cell, ways))} |")
    print(f"\nMean ± standard deviation of {len(ways[0].full)} trials", end="; ")
    print(", ".join(f"batches of {way.batch_size} ({way.kind})" for way in ways if way.name == "eager"))


def spread(trials, digits: int = 1) -> str:
    deviation = np.std(trials, ddof=1) if len(trials) > 1 else 0.0
    return f"{np.mean(trials):,.{digits}f} ± {deviation:.{digits}f}"

#!/usr/bin/env python3
"""Measure the speed of training and evaluation, and project the time of an ablation on KonIQ-10k.

    python3 benchmark_training.py --quick                      # 2 minutes on 2 CPU cores
    python3 benchmark_training.py --data_path ./koniq-10k      # with the images of a data folder
    python3 benchmark_training.py --compile                    # compiled too: about two minutes more on a GPU

Patches per second of the third variant, by an eager step, a CUDA graph (on a GPU), a compiled step, and both:

    FULL      training and evaluation as in a run, with their input
    COMPUTE   the steps alone: the same code on one batch that is on the device
    INPUT     the input alone: planned, cut, moved to the device, mirrored and normalised there
    LIMIT     an upper bound: all operations at the measured peak rate of matrix products in the same precision
"""

import argparse
import sys
from pathlib import Path

from iqa.atomic_files import check_writable
from iqa.cli import Command, OneLineParser, number
from iqa.data.images import SHORT_SIDE, cpu_count
from iqa.models.backbones import STRIDE


def parse_options(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    flag = parser.add_argument
    flag("--quick", action="store_true", help="fewer steps and images, so the spread is larger")
    flag("--data_path", metavar="DIR", help="folder in the layout of KonIQ-10k; default: demo images")
    flag("--images", type=number(int, 12), help="number of demo images; default: 400, or 64 with --quick")
    flag("--trials", type=number(int, 1), default=3, help="trials after a warm-up; default: 3")
    flag("--seconds", type=number(float, 0.01), help="length of a trial; default: 30, or 5 with --quick")
    flag("--batch_size", type=number(int, 1), default=32, help="patches per training step; default: 32")
    flag("--patch_size", type=number(int, 2 * STRIDE, SHORT_SIDE), default=224, help="side of a patch; default: 224")
    flag("--device", default="auto", help="auto (CUDA if there is a GPU), cpu, cuda or cuda:N")
    flag("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="auto: the faster one, as in a run")
    flag("--num_workers", type=number(int, -1), default=-1, help="-1: 0 on a CPU, up to 4 with a GPU")
    flag("--preload_images", choices=("auto", "gpu", "host", "no"), default="auto", help="as in a run")
    flag("--color_jitter", action="store_true", help="jitter the colours, unlike the ablation")
    flag("--compile", action="store_true", help="also measure compiled steps; they compile in the warm-up")
    flag("--output", default="benchmark.json", metavar="FILE", help="JSON file of the numbers; default: benchmark.json")
    flag("--traceback", action="store_true", help="show where an error came from")
    options = parser.parse_args(argv)
    options.images = options.images or (64 if options.quick else 400)
    options.seconds = options.seconds or (5 if options.quick else 30)
    return options


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write; returns the exit status."""
    with Command(argv, when_stopped="Nothing was written.", more_memory="choose a smaller --batch_size") as command:
        options = parse_options(argv)
        check_writable("--output", Path(options.output))
        from benchmark_training import benchmark  # it loads torch, which takes seconds

        benchmark(options)
    return command.status


if __name__ == "__main__":
    sys.exit(main())

import contextlib
import dataclasses
import itertools
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from data_loader import EvaluationPlan, PatchLoader, Resize, TrainingPlan
from iqa.data.datasets import load_dataset
from iqa.data.image_cache import ImageCache
from iqa.demo.folder import invent_rows, write_folder
from iqa.json_files import write_json
from iqa.models.flop import flop_per_patch
from iqa.training.devices import choose_kernels, device_name, evaluation_batch, open_device, preloaded
from iqa.training.precision import measured_precision, settled_precision, wait_for
from iqa.training.scored_model import EvalModeCopy
from train_resnet_improved import (
    EagerStep,
    build_model,
    build_step,
    choose_optimizer,
    evaluate,
    start_model,
    train_epoch,
)
from train_resnet_improved import parse_options as parse_recipe

STEPS = {
    "eager": {"cuda_graph": "off"},
    "graph": {"cuda_graph": "auto"},
    "compiled": {"cuda_graph": "off", "compile": True},
    "compiled graph": {"cuda_graph": "auto", "compile": True},
}
LIMIT_SHARE = 0.2  # of a trial's seconds, for a matrix product
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
        limit: the rate if every operation ran at the highest rate of matrix products.
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


def benchmark(options: argparse.Namespace) -> None:
    """Measure, write the JSON file and print the table."""
    device = open_device(options.device)
    choose_kernels(deterministic=False)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.data_path or scratch)
        if not options.data_path:
            with contextlib.redirect_stdout(sys.stderr):
                write_folder(folder, invent_rows(options.images, seed=42), 42, cpu_count())
        data = load_dataset("koniq-10k", folder)
        images = data.sets["training"]
        cache = ImageCache(data.root, Path(scratch) / "cache", Resize())
        start = time.monotonic()
        with contextlib.redirect_stdout(sys.stderr):
            stored = cache.open(images.paths)
        images_per_second = len(images) / (time.monotonic() - start)
        bench = Benchmark(options, device, data, stored)
        flop_per_second = matrix_product_rate(device, bench.precision, LIMIT_SHARE * options.seconds)
        ways = []
        for kind in ("training", "evaluation"):
            ways += bench.measure(kind, flop_per_second / getattr(bench.flop, kind))
    numbers = {
        "device": device_name(device),
        "precision": bench.precision,
        "patch_size": options.patch_size,
        "torch": torch.__version__,
        "cache_images_per_second": images_per_second,
        "peak_memory_gb": peak_memory_gb(device),
        "flop_per_patch": bench.flop._asdict(),
        "matrix_product_flop_per_second": flop_per_second,
        "ablation_minutes": ablation_minutes(ways, images_per_second),
        "ways": [dataclasses.asdict(way) for way in ways],
    }
    write_json(options.output, numbers)
    print(f"{numbers['device']}, {bench.precision}, patch {options.patch_size}, torch {torch.__version__}\n")
    print_table(ways, numbers["ablation_minutes"])
    print(f"Cache build: {images_per_second:.0f} images/s")
    print("Peak memory: " + ", ".join(f"{value:.2f} GB {name}" for name, value in numbers["peak_memory_gb"].items()))


class Benchmark:
    """The third variant on one device; every measurement calls the functions of a real run."""

    def __init__(self, options, device, data, stored):
        self.options, self.device, self.images = options, device, data.sets["training"]
        self.stored = preloaded({"training": stored}, options.preload_images, device, is_cached=True)["training"]
        recipe = parse_recipe("--use_multiscale --use_attention --weights none".split())
        self.recipe = dataclasses.replace(recipe, batch_size=options.batch_size, patch_size=options.patch_size)
        model = build_model(self.recipe, data, None)
        self.flop = flop_per_patch(model, options.patch_size)
        self.model = model.to(device, memory_format=torch.channels_last)
        settled = settled_precision(options.precision, device, None, Path())
        measured = settled or measured_precision(EagerStep, self.model, device, options.batch_size, options.patch_size)
        self.precision = measured["precision"]
        start_model(self.model, self.loader("training", 1), self.precision)

    def runs(self, kind: str) -> dict[str, Callable]:
        """Name of a way -> function that trains or evaluates by it on the batches of a loader."""
        names = [name for name in STEPS if self.options.compile or "compiled" not in name]
        if kind == "evaluation":
            return {name: self.evaluate_by(name) for name in names if "graph" not in name}
        return {name: self.train_by(name) for name in names if "graph" not in name or self.device.type == "cuda"}

    def train_by(self, name: str) -> Callable:
        recipe = dataclasses.replace(self.recipe, **STEPS[name])
        rates = choose_optimizer(recipe, self.model, steps_per_epoch=1)
        step = build_step(recipe, self.model, rates, self.images.mos.std(), self.precision, self.device)
        settings = {"rates": rates, "names": self.images.names, "title": "benchmark"}
        return lambda loader: train_epoch(self.model, step, loader, **settings)

    def evaluate_by(self, name: str) -> Callable:
        model = EvalModeCopy(self.model, ema=0.0)
        if name == "compiled":
            model.compile()
        return lambda loader: evaluate(model, loader, 1, precision=self.precision, title="benchmark")

    def measure(self, kind: str, limit: float) -> list[Way]:
        """Measure all ways of a kind in turn, so that a drift of the machine affects all of them."""
        runs = self.runs(kind)
        inputs, batch = next(iter(self.loader(kind, 1)))
        device, size = self.device, len(inputs)

        def repeated(steps: int) -> Batches:
            return Batches([(inputs, batch)] * steps, device=device, plan=[batch] * steps)

        alone: list[float] = []
        warm_up = {name: timed(device, run, self.loader(kind, WARM_UP)) for name, run in runs.items()}
        ways = [Way(kind, name, size, seconds, limit, alone) for name, seconds in warm_up.items()]
        slowest = max(timed(device, run, repeated(2)) for run in runs.values()) / 2  # seconds of a step
        steps = max(1, round(self.options.seconds / slowest))
        loader, patches = self.loader(kind, steps), steps * size
        timed(device, exhaust, loader)  # starts the workers and allocates memory
        for _ in range(self.options.trials):
            alone.append(patches / timed(device, exhaust, loader))
            for way in ways:
                way.compute.append(patches / timed(device, runs[way.name], repeated(steps)))
                way.full.append(patches / timed(device, runs[way.name], loader))
        return ways

    def loader(self, kind: str, steps: int) -> PatchLoader:
        """A loader of that many batches, from a plan with enough patches of each image."""
        images, size, batch = self.images, self.options.patch_size, self.options.batch_size
        if kind == "evaluation":
            batch = evaluation_batch(self.device, batch)
        patches = -(-steps * batch // len(images))
        settings = {"patches": patches, "patch_size": size, "batch_size": batch, "seed": 42}
        if kind == "training":
            plan = TrainingPlan(self.stored.sizes(), images.mos, **settings)
        else:
            plan = EvaluationPlan(self.stored.sizes(), images.mos, images.names, random=True, **settings)
        return PatchLoader(
            self.stored,
            Batches(itertools.islice(plan, steps), batch_size=batch),
            patch_size=size,
            color_jitter=kind == "training" and self.options.color_jitter,
            device=self.device,
            num_workers=self.options.num_workers,
        )


def peak_memory_gb(device: torch.device) -> dict[str, float]:
    """Peak memory of this process on the host, mapped cache pages included, and on the device."""
    unit = 1 if sys.platform == "darwin" else 1024
    peaks = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}
    if device.type == "cuda":
        peaks["device"] = torch.cuda.max_memory_reserved(device) / 1e9
    return peaks


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

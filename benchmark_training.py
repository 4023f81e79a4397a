#!/usr/bin/env python3
"""Rates of training and evaluation, and what they leave to gain on a machine.

    python3 benchmark_training.py --quick                      # 2 minutes on 2 CPU cores
    python3 benchmark_training.py --data_path ./koniq-10k      # the device at hand, with real JPEGs
    python3 benchmark_training.py --compile                    # also compiled: about two minutes more on a GPU

Patches per second of the third variant: eager, as a CUDA graph (on a GPU), compiled, and compiled in a CUDA graph:

    FULL      the functions that train and evaluate a run, with their input
    COMPUTE   the steps alone: the same code on one batch that is on the device
    INPUT     the input alone: planned, cut, moved to the device, mirrored and normalised there
    LIMIT     every operation at the rate of the machine's own largest matrix product in the same precision
    habit     one patch per forward pass in fp32, each patch decoded from its JPEG and resized
"""

import argparse
import sys
from pathlib import Path

from iqa.atomic_files import check_writable, write_atomically
from iqa.cli import Command, OneLineParser, number
from iqa.data.images import SHORT_SIDE
from iqa.models.backbones import STRIDE


def parse_options(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    flag = parser.add_argument
    flag("--quick", action="store_true", help="fewer steps and images; the spread is larger")
    flag("--data_path", metavar="DIR", help="KonIQ-shaped folder; default: demo images, made for the purpose")
    flag("--images", type=number(int, 12), help="demo images to make; default: 400, or 64 with --quick")
    flag("--trials", type=number(int, 1), default=3, help="of each measurement, after a warm-up; default: 3")
    flag("--seconds", type=number(float, 0.01), help="of each trial, about; default: 30, or 5 with --quick")
    flag("--batch_size", type=number(int, 1), default=32, help="patches per training step; default: 32")
    flag("--patch_size", type=number(int, 2 * STRIDE, SHORT_SIDE), default=224, help="pixels; default: 224")
    flag("--device", default="auto", help="auto (CUDA where there is one), cpu, cuda or cuda:N")
    flag("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="auto: the faster one, as in a run")
    flag("--num_workers", type=number(int, -1), default=-1, help="-1: 0 on a CPU, 4 for a GPU")
    flag("--preload_images", choices=("auto", "gpu", "host", "no"), default="auto", help="as in a run")
    flag("--color_jitter", action="store_true", help="the ablation trains without it")
    flag("--compile", action="store_true", help="measure compiled steps, too; their warm-up compiles")
    flag("--output", default="benchmark.json", metavar="FILE", help="the same numbers; default: benchmark.json")
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

import copy
import functools
import itertools
import json
import subprocess
import tempfile
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import ConstantLR

from data_loader import EvaluationPlan, PatchLoader, Resize, TrainingPlan
from iqa.benchmark.arithmetic import MatrixProduct, flop_per_patch
from iqa.benchmark.report import KINDS, cache_report, machine, memory, print_report, projection
from iqa.benchmark.trials import First, Work, measure, timed
from iqa.data.datasets import load_dataset
from iqa.data.image_cache import ImageCache
from iqa.data.images import DecodedImages
from iqa.models.normalisation import fold_batch_norms
from iqa.models.variants import VARIANTS
from iqa.training.devices import EVALUATION_BATCH, bf16_is_native, choose_kernels, open_device, preloaded
from iqa.training.optimization import LearningRates, build_optimizer
from iqa.training.precision import measured_precision, wait_for
from iqa.training.step import EagerStep, choose_step
from models_resnet_improved import ImageQualityResNet
from train_resnet_improved import evaluate, start_model, train_epoch

VARIANT = VARIANTS[2]
OPTIMIZER = {"lr": 1e-4, "weight_decay": 1e-4}
LIMIT_SHARE = 0.2  # of a trial's seconds, for the matrix product


def benchmark(options: argparse.Namespace) -> None:
    """Measure, write the JSON file and print the tables."""
    device = open_device(options.device)
    choose_kernels(deterministic=False)
    with tempfile.TemporaryDirectory() as scratch:
        data = load_dataset("koniq-10k", options.data_path or make_demo(Path(scratch) / "demo", options.images))
        images = data.sets["training"]
        cache = ImageCache(data.root, Path(scratch) / "cache", Resize(), lambda line: None)
        build = timed(lambda: cache.open(images.paths))
        bench = Benchmark(options, device, images, cache.open(images.paths))
        product = MatrixProduct(device, bench.precision, LIMIT_SHARE * options.seconds)
        numbers = {
            "machine": machine(device, bench.precision, product, options),
            "cache": cache_report(build, len(images)),
        }
        for kind, work in zip(KINDS, (bench.training(), bench.evaluation()), strict=True):
            numbers[kind] = measure(work, product, trials=options.trials, seconds=options.seconds)
    numbers["memory"] = memory(device)
    numbers["ablation"] = projection(numbers)
    write_atomically(options.output, json.dumps(numbers, indent=2) + "\n")
    print_report(numbers)


class Benchmark:
    """Loaders and models for one device; every measurement goes through the functions of a real run."""

    def __init__(self, options, device, images, stored):
        self.options, self.device, self.images = options, device, images
        self.stored = preloaded({"training": stored}, options.preload_images, device, is_cached=True)["training"]
        self.sizes = stored.sizes()
        model = ImageQualityResNet(
            use_multiscale=VARIANT.use_multiscale,
            use_attention=VARIANT.use_attention,
            weights="none",
            mos_mean=images.mos.mean(),
            mos_deviation=images.mos.std(),
        )
        self.flop = flop_per_patch(model, options.patch_size)
        self.model = model.to(device, memory_format=torch.channels_last)
        self.precision = options.precision if options.precision != "auto" else self.faster_precision()
        start_model(self.model, self.training_loader(1), self.precision)

    def faster_precision(self) -> str:
        if not bf16_is_native(self.device):
            return "fp32"
        return measured_precision(self.model, self.device, self.options.batch_size, self.options.patch_size)[
            "precision"
        ]

    def loader(self, plan, color_jitter=False) -> PatchLoader:
        return PatchLoader(
            self.stored,
            plan,
            patch_size=self.options.patch_size,
            color_jitter=color_jitter,
            device=self.device,
            num_workers=self.options.num_workers,
        )

    def training_loader(self, steps: int) -> PatchLoader:
        batch = self.options.batch_size
        patches = -(-steps * batch // len(self.images))
        settings = {"patches": patches, "patch_size": self.options.patch_size, "batch_size": batch, "seed": 42}
        return self.loader(
            First(TrainingPlan(self.sizes, self.images.mos, **settings), steps), self.options.color_jitter
        )

    def training(self) -> Work:
        ways = {}
        for compiled in (False, True) if self.options.compile else (False,):
            forward = torch.compile(self.model, dynamic=False) if compiled else self.model
            ways["compiled" if compiled else "eager"] = self.train_by(forward, cuda_graph="off")
            if self.device.type == "cuda":
                ways["compiled graph" if compiled else "graph"] = self.train_by(forward, cuda_graph="auto")
        return Work(self.training_loader, ways, self.habit(training=True), self.options.batch_size, self.flop.training)

    def train_by(self, forward: Callable, *, cuda_graph: str) -> Callable:
        """What trains on the batches of a loader, with an optimizer of its own."""
        optimizer = build_optimizer(self.model, **OPTIMIZER)
        schedule = ConstantLR(optimizer, factor=1.0)
        rates = LearningRates(optimizer, schedule, as_tensors=self.device.type == "cuda")
        eager = EagerStep(self.model, forward, optimizer, F.l1_loss, precision=self.precision)
        step = choose_step(cuda_graph, eager, self.device, warn=functools.partial(print, file=sys.stderr))
        names = self.images.names
        return lambda loader: train_epoch(self.model, step, loader, rates=rates, names=names, title="benchmark")

    def evaluation(self) -> Work:
        batch = EVALUATION_BATCH[self.device.type]
        settings = {"patch_size": self.options.patch_size, "batch_size": batch, "seed": 42, "random": True}
        score = fold_batch_norms(self.model).describe

        def make_loader(steps):
            patches = -(-steps * batch // len(self.images))
            plan = EvaluationPlan(self.sizes, self.images.mos, self.images.names, patches=patches, **settings)
            return self.loader(First(plan, steps))

        def evaluate_by(score):
            return lambda loader: evaluate(
                score, loader, len(loader) * batch, precision=self.precision, title="benchmark"
            )

        ways = {"eager": evaluate_by(score)}
        if self.options.compile:
            ways["compiled"] = evaluate_by(torch.compile(score, dynamic=False))
        return Work(make_loader, ways, self.habit(training=False), batch, self.flop.evaluation)

    def habit(self, *, training: bool) -> Callable[[], float]:
        """Patches/s of one patch per forward pass: fp32, channels first, decoded and resized for each patch."""
        model = copy.deepcopy(self.model).to(memory_format=torch.contiguous_format).train(training)
        optimizer, batch, size = build_optimizer(model, **OPTIMIZER), self.options.batch_size, self.options.patch_size
        images = DecodedImages(self.images.paths, Resize())
        plan = TrainingPlan(self.sizes, self.images.mos, patches=1, patch_size=size, batch_size=1, seed=42)
        loader = PatchLoader(images, plan, patch_size=size, color_jitter=False, device=self.device, num_workers=0)

        def rate(seconds: float = self.options.seconds) -> float:
            start = time.monotonic()
            for count, (inputs, planned) in enumerate(itertools.chain.from_iterable(itertools.repeat(loader)), 1):
                with torch.set_grad_enabled(training):
                    scores = model(inputs.contiguous())
                if training:
                    (F.l1_loss(scores, planned.mos) / batch).backward()
                    if count % batch == 0:
                        optimizer.step()
                        optimizer.zero_grad(set_to_none=True)
                if time.monotonic() - start > seconds:
                    break
            wait_for(self.device)
            return count / (time.monotonic() - start)

        rate(0)  # selects kernels
        return rate


def make_demo(folder: Path, images: int) -> Path:
    command = [sys.executable, Path(__file__).parent / "demo_dataset.py", "--output", folder, "--images", str(images)]
    made = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if made.returncode:
        raise RuntimeError(f"the demo images cannot be made: {made.stderr.strip().removeprefix('error: ')}")
    return folder

#!/usr/bin/env python3
"""How close training comes to what the device can do, and how far from one patch per forward pass.

    python3 benchmark_training.py --quick                      # 2 minutes on 2 CPU cores
    python3 benchmark_training.py --data_path ./koniq-10k      # the device at hand, with real JPEGs

Four rates of the third variant, in training and in evaluation, in patches per second:

    CUT       the host's part of the input alone: planned and cut from the cache
    INPUT     the whole input alone: planned, cut, moved to the device, mirrored and normalised there
    COMPUTE   the steps alone: the same code on one batch that lies on the device
    FULL      the real thing: the functions that train and evaluate a run, with their input

FULL / COMPUTE is the headline: 1 means that the input costs nothing. The habit that this replaces is timed beside it:
one patch per forward pass, fp32, each patch decoded from its JPEG and resized.
"""

import argparse
import contextlib
import io
import itertools
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
import torch
import torch.nn.functional as F
import torchvision

from iqa.data.koniq import load_koniq
from iqa.atomic_files import check_writable, write_atomically
from iqa.command_line import OneLineParser, number, one_line
from iqa.data.image_cache import SHORT_SIDE, DecodedImages, ImageCache, cpu_count
from iqa.models.variants import VARIANTS
from iqa.training.devices import EVALUATION_BATCH, choose_kernels, choose_precision, device_name, open_device
from models_resnet_improved import ImageQualityResNet
from data_loader import PatchLoader
from patches import EvaluationPlan, PatchCutter, PatchTransform, TrainingPlan
from train_resnet_improved import STRIDE
from training import build_optimizer, evaluate, make_state, train_epoch

TRAINING_PATCHES = 3 * 10 * 7058 * 25  # of the whole ablation: variants x epochs x images x patches
EVALUATION_PATCHES = 3 * 10 * (1000 + 2015) * 25
VARIANT = VARIANTS[2]


def parse_options() -> argparse.Namespace:
    parser = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="fewer steps and images; the spread is larger")
    parser.add_argument("--data_path", metavar="DIR", help="KonIQ-shaped folder; default: demo images, made for the purpose")
    parser.add_argument("--images", type=number(int, 12), help="demo images to make; default: 400, or 64 with --quick")
    parser.add_argument("--trials", type=number(int, 1), default=3, help="of each measurement, after a warm-up; default: 3")
    parser.add_argument("--seconds", type=number(float, 0.01), help="of each trial, about; default: 30, or 5 with --quick")
    parser.add_argument("--batch_size", type=number(int, 1), default=32, help="patches per training step; default: 32")
    parser.add_argument("--patch_size", type=number(int, 2 * STRIDE, SHORT_SIDE), default=224, help="pixels; default: 224")
    parser.add_argument("--device", default="auto", help="auto (CUDA where there is one), cpu, cuda or cuda:N")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--num_workers", type=number(int, -1), default=-1, help="-1: 0 on a CPU, 4 for a GPU")
    parser.add_argument("--preload_images", action="store_true", help="hold the images in the device's memory")
    parser.add_argument("--color_jitter", action="store_true", help="the ablation trains without it")
    parser.add_argument("--compile", action="store_true", help="use torch.compile; its time is reported apart")
    parser.add_argument("--output", default="benchmark.json", metavar="FILE", help="the same numbers; default: benchmark.json")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    options = parser.parse_args()
    options.images = options.images or (64 if options.quick else 400)
    options.seconds = options.seconds or (5 if options.quick else 30)
    return options


def main() -> int:
    options = parse_options()
    try:
        check_writable("--output", Path(options.output))
        benchmark(options)
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        if options.traceback:
            raise
        print(f"error: {one_line(error, 'choose a smaller --batch_size')}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; nothing was written.", file=sys.stderr)
        return 130
    return 0


def benchmark(options: argparse.Namespace) -> None:
    device = open_device(options.device)
    choose_kernels(deterministic=False)
    precision = choose_precision(options.precision, device)
    with tempfile.TemporaryDirectory() as scratch:
        data = load_koniq(options.data_path or make_demo(Path(scratch) / "demo", options.images))
        images = data.sets["training"]
        cache = ImageCache(data.root, Path(scratch) / "cache", lambda line: None)
        build = timed(lambda: cache.open(images.paths))
        report = {"machine": machine(device, precision, options), "cache": build_report(build, len(images))}
        bench = Benchmark(options, device, precision, images, cache.open(images.paths))
        report["training"], report["evaluation"] = bench.training(), bench.evaluation()
    report["memory"] = memory(device)
    report["ablation"] = projection(report)
    write_atomically(options.output, json.dumps(report, indent=2) + "\n")
    print_report(report)


class Benchmark:
    """Loaders and models for one device; every measurement goes through the functions of a real run."""

    def __init__(self, options, device, precision, images, stored):
        self.options, self.device, self.precision, self.images = options, device, precision, images
        self.stored = stored.in_memory() if options.preload_images else stored
        self.sizes = stored.sizes()
        model = ImageQualityResNet(use_multiscale=True, use_attention=True, weights="none", initial_score=50)
        self.state = make_state(
            model, lr=1e-4, weight_decay=1e-4, device=device, precision=precision, compiled=options.compile
        )

    def loader(self, plan, color_jitter=False) -> PatchLoader:
        return PatchLoader(
            self.stored, plan, patch_size=self.options.patch_size, color_jitter=color_jitter, device=self.device,
            num_workers=self.options.num_workers,
            on_device=self.options.preload_images and self.device.type == "cuda",
        )  # fmt: skip

    def training(self) -> dict:
        batch = self.options.batch_size

        def plan(steps):
            patches = -(-steps * batch // len(self.images))
            settings = {"patches": patches, "patch_size": self.options.patch_size, "batch_size": batch, "seed": 42}
            return First(TrainingPlan(self.sizes, self.images.mos, **settings), steps)

        def run(loader):
            train_epoch(self.state, loader, self.images.names, "benchmark")

        return self.rates(lambda steps: self.loader(plan(steps), self.options.color_jitter), run, batch,
                          self.habit(training=True))  # fmt: skip

    def evaluation(self) -> dict:
        batch = EVALUATION_BATCH[self.device.type]

        def plan(steps):
            patches = -(-steps * batch // len(self.images))
            return First(EvaluationPlan(
                self.sizes, self.images.mos, self.images.names, patches=patches, patch_size=self.options.patch_size,
                batch_size=batch, seed=42, random=True,
            ), steps)  # fmt: skip

        def run(loader):
            evaluate(self.state.score(), loader, len(loader) * batch, "benchmark")

        return self.rates(lambda steps: self.loader(plan(steps)), run, batch, self.habit(training=False))

    def rates(self, make_loader: Callable, run: Callable, batch: int, habit: Callable) -> dict:
        """Patches/s of CUT, INPUT, COMPUTE, FULL and the habit; their trials take turns, so that a drift meets all."""
        first = make_loader(2)
        warm_up = timed(lambda: self.wait(run, Repeated(first)))
        once = timed(lambda: self.wait(run, Repeated(first))) / 2
        steps = max(1, round(self.options.seconds / once))
        loader, repeated = make_loader(steps), Repeated(first, steps)
        self.wait(lambda x: [None for _ in x], loader)  # starts the workers, touches the pages
        trials = {"CUT": [], "INPUT": [], "COMPUTE": [], "FULL": [], "habit": []}
        for _ in range(self.options.trials):
            trials["CUT"].append(steps * batch / timed(lambda: [None for _ in loader.cut]))
            trials["INPUT"].append(steps * batch / timed(lambda: self.wait(lambda x: [None for _ in x], loader)))
            trials["COMPUTE"].append(steps * batch / timed(lambda: self.wait(run, repeated)))
            trials["FULL"].append(steps * batch / timed(lambda: self.wait(run, loader)))
            trials["habit"].append(habit())
        ratios = [full / compute for full, compute in zip(trials["FULL"], trials["COMPUTE"], strict=True)]
        speedups = [full / old for full, old in zip(trials["FULL"], trials["habit"], strict=True)]
        return {
            "batch_size": batch,
            "steps_per_trial": steps,
            "warm_up_seconds": round(warm_up, 2),
            **{name: spread(values) for name, values in trials.items()},
            "FULL / COMPUTE": spread(ratios),
            "FULL / habit": spread(speedups),
        }

    def wait(self, run: Callable, loader) -> None:
        """Run to the end of the device's queue; progress lines are not part of the measurement's output."""
        with contextlib.redirect_stdout(io.StringIO()):
            run(loader)
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def habit(self, *, training: bool) -> Callable[[], float]:
        """Patches/s of one patch per forward pass: fp32, channels first, decoded and resized for each patch."""
        model = ImageQualityResNet(use_multiscale=True, use_attention=True, weights="none", initial_score=50)
        model = model.to(self.device).train(training)
        optimizer = build_optimizer(model, lr=1e-4, weight_decay=1e-4)
        size, batch = self.options.patch_size, self.options.batch_size
        plan = TrainingPlan(self.sizes, self.images.mos, patches=1, patch_size=size, batch_size=1, seed=42)
        cutter = PatchCutter(DecodedImages(self.images.paths), size)
        transform = PatchTransform(color_jitter=False).to(self.device)

        def patch(planned):
            cut = type(planned)(*(x.to(self.device) for x in cutter[planned]))
            inputs = transform(cut).contiguous()
            if not training:
                with torch.inference_mode():
                    return model(inputs)
            (F.l1_loss(model(inputs), cut.mos) / batch).backward()

        def measure() -> float:
            count, start = 0, time.monotonic()
            for count, planned in enumerate(itertools.cycle(plan), 1):
                patch(planned)
                if count % batch == 0 and training:
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                if time.monotonic() - start > self.options.seconds:
                    break
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            return count / (time.monotonic() - start)

        patch(next(iter(plan)))
        return measure


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

    def __init__(self, loader: PatchLoader, steps: int = 2):
        self.item, self.steps = next(iter(loader)), steps
        self.device, self.plan = loader.device, First(loader.plan, 1)

    def __len__(self):
        return self.steps

    def __iter__(self):
        return itertools.repeat(self.item, self.steps)


def timed(work: Callable) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def spread(values: list[float]) -> dict:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "sd": deviation, "trials": values}


def make_demo(folder: Path, images: int) -> Path:
    command = [sys.executable, Path(__file__).parent / "demo_dataset.py", "--output", folder, "--images", str(images)]
    made = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if made.returncode:
        raise RuntimeError(f"the demo images cannot be made: {made.stderr.strip().removeprefix('error: ')}")
    return folder


def machine(device: torch.device, precision: str, options) -> dict:
    return {
        "device": device_name(device),
        "processor": processor_name(),
        "precision": precision,
        "patch_size": options.patch_size,
        "compile": options.compile,
        "preload_images": options.preload_images,
        "python": platform.python_version(),
        **{m.__name__: m.__version__ for m in (torch, torchvision, np)},
        "pillow": PIL.__version__,
    }


def processor_name() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return platform.processor()


def build_report(seconds: float, images: int) -> dict:
    rate = images / seconds
    return {"images": images, "seconds": seconds, "images_per_second": rate, "per_core": rate / cpu_count()}


def memory(device: torch.device) -> dict:
    """Peaks, in GB: of this process on the host (mapped cache pages counted), and on the device."""
    unit = 1 if sys.platform == "darwin" else 1024
    peaks = {"host_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}
    if device.type == "cuda":
        peaks["device_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    return peaks


def projection(report: dict) -> dict:
    """Hours of the whole ablation on KonIQ-10k with the recipe's numbers of patches, from the FULL rates."""
    seconds = {
        "training": TRAINING_PATCHES / report["training"]["FULL"]["mean"],
        "evaluation": EVALUATION_PATCHES / report["evaluation"]["FULL"]["mean"],
        "cache": 10_073 / report["cache"]["images_per_second"],
    }
    return {"hours": sum(seconds.values()) / 3600, **{f"{name}_hours": s / 3600 for name, s in seconds.items()}}


def print_report(report: dict) -> None:
    facts = report["machine"]
    print(f"{facts['device']} ({facts['processor']}), {facts['precision']}, patch {facts['patch_size']}, "
          f"torch {facts['torch']}, torchvision {facts['torchvision']}, Python {facts['python']}\n")  # fmt: skip
    print("| patches/s | training | evaluation |\n|---|---|---|")
    for name in ("CUT", "INPUT", "COMPUTE", "FULL", "habit", "FULL / COMPUTE", "FULL / habit"):
        digits = 3 if name == "FULL / COMPUTE" else 1
        cells = [report[kind][name] for kind in ("training", "evaluation")]
        print(f"| {name} | " + " | ".join(f"{c['mean']:,.{digits}f} ± {c['sd'] or 0:.{digits}f}" for c in cells) + " |")
    cache = report["cache"]
    print(f"\nMean ± standard deviation of {len(cells[0]['trials'])} trials; batches of "
          f"{report['training']['batch_size']} and {report['evaluation']['batch_size']} patches.")  # fmt: skip
    print(f"Cache build: {cache['images_per_second']:.0f} images/s ({cache['per_core']:.0f} per core)")
    print("Peak memory: " + ", ".join(f"{value:.2f} GB {name[:-3]}" for name, value in report["memory"].items()))
    print(f"The whole ablation on KonIQ-10k, projected: {report['ablation']['hours']:.1f} hours")


if __name__ == "__main__":
    sys.exit(main())

"""Memory, cache and duration of the benchmark, and its printed tables."""

import contextlib
import platform
import resource
import sys
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision

from iqa.benchmark.arithmetic import MatrixProduct
from iqa.benchmark.trials import SHARED
from iqa.data.images import cpu_count
from iqa.training.devices import device_name

RUNS = 3  # variants of the ablation, 10 epochs each
TRAINING_PATCHES = RUNS * 10 * 7058 * 25  # images x patches
EVALUATION_PATCHES = RUNS * 10 * (1000 + 2015) * 25
KONIQ_IMAGES = 10_073
KINDS = ("training", "evaluation")
ROWS = {"FULL": 1, "COMPUTE": 1, "FULL / COMPUTE": 3, "FULL / LIMIT": 3, "FULL / habit": 1}  # name -> decimals


def machine(device: torch.device, precision: str, product: MatrixProduct, options) -> dict:
    return {
        "device": device_name(device),
        "processor": processor_name(),
        "precision": precision,
        "patch_size": options.patch_size,
        "preload_images": options.preload_images,
        "matrix_product": {"side": product.side, "dtype": str(product.dtype).removeprefix("torch.")},
        "python": platform.python_version(),
        **{m.__name__: m.__version__ for m in (torch, torchvision, np)},
        "pillow": PIL.__version__,
    }


def processor_name() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return platform.processor()


def cache_report(seconds: float, images: int) -> dict:
    rate = images / seconds
    return {"images": images, "seconds": seconds, "images_per_second": rate, "per_core": rate / cpu_count()}


def memory(device: torch.device) -> dict:
    """Peak memory in GB of this process on the host, mapped cache pages included, and on the device."""
    unit = 1 if sys.platform == "darwin" else 1024
    peaks = {"host_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}
    if device.type == "cuda":
        peaks["device_gb"] = torch.cuda.max_memory_reserved(device) / 1e9
    return peaks


def projection(report: dict) -> dict[str, float]:
    """Minutes of the ablation on KonIQ-10k with the recipe's numbers of patches, for each way of training.

    They include the warm-up of every run, which compiles, and the cache build; the rates are the FULL ones.
    """
    minutes, ways = {}, report["training"]["ways"]
    for name, training in ways.items():
        evaluation = report["evaluation"]["ways"]["compiled" if "compiled" in name else "eager"]
        seconds = TRAINING_PATCHES / training["FULL"]["mean"] + EVALUATION_PATCHES / evaluation["FULL"]["mean"]
        warm_up = training["warm_up_seconds"] + evaluation["warm_up_seconds"]
        if name == "compiled graph":  # it captures the step that the previous way compiled
            warm_up += ways["compiled"]["warm_up_seconds"]
        minutes[name] = (seconds + RUNS * warm_up + KONIQ_IMAGES / report["cache"]["images_per_second"]) / 60
    return minutes


def print_report(report: dict) -> None:
    facts, cache = report["machine"], report["cache"]
    print(
        f"{facts['device']} ({facts['processor']}), {facts['precision']}, patch {facts['patch_size']}, "
        f"torch {facts['torch']}, torchvision {facts['torchvision']}, Python {facts['python']}"
    )
    for kind in KINDS:
        print_table(kind, report[kind], report["ablation"] if kind == "training" else {})
    print(f"\nCache build: {cache['images_per_second']:.0f} images/s ({cache['per_core']:.0f} per core)")
    print("Peak memory: " + ", ".join(f"{value:.2f} GB {name[:-3]}" for name, value in report["memory"].items()))


def print_table(kind: str, numbers: dict, minutes: dict[str, float]) -> None:
    """Print the rates of all ways side by side, then the shared rates."""
    ways = numbers["ways"]
    print(f"\n| {kind}, patches/s | {' | '.join(ways)} |\n|{'---|' * (1 + len(ways))}")
    for row, digits in ROWS.items():
        print_row(row, [cell(way[row], digits) for way in ways.values()])
    compute = [way["COMPUTE"]["mean"] for way in ways.values()]
    print_row("COMPUTE / eager", [f"{rate / compute[0]:.2f}" for rate in compute])
    print_row("warm-up", [f"{way['warm_up_seconds']:.1f} s" for way in ways.values()])
    if minutes:
        print_row("ablation, projected", [f"{minutes[name]:.0f} min" for name in ways])
    print("\n" + ", ".join(f"{name} {cell(numbers[name], 1)}" for name in SHARED), end="; ")
    print(
        f"mean ± standard deviation of {len(numbers['LIMIT']['trials'])} trials, batch {numbers['batch_size']}, "
        f"{numbers['flop_per_patch'] / 1e9:.2f} GFLOP a patch"
    )


def print_row(name: str, cells: list[str]) -> None:
    print(f"| {name} | {' | '.join(cells)} |")


def cell(rate: dict, digits: int) -> str:
    return f"{rate['mean']:,.{digits}f} ± {rate['sd'] or 0:.{digits}f}"

"""What the benchmark reports beside its rates, and how it is printed."""

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
from iqa.benchmark.trials import RATES
from iqa.data.images import cpu_count
from iqa.training.devices import device_name

TRAINING_PATCHES = 3 * 10 * 7058 * 25  # of the whole ablation: variants x epochs x images x patches
EVALUATION_PATCHES = 3 * 10 * (1000 + 2015) * 25
KONIQ_IMAGES = 10_073
KINDS = ("training", "evaluation")
ROWS = ("FULL / LIMIT", "FULL / COMPUTE", *RATES, "FULL / habit")  # the limit leads, the habit comes last
DIGITS = {"FULL / LIMIT": 3, "FULL / COMPUTE": 3}


def machine(device: torch.device, precision: str, product: MatrixProduct, options) -> dict:
    return {
        "device": device_name(device),
        "processor": processor_name(),
        "precision": precision,
        "patch_size": options.patch_size,
        "compile": options.compile,
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
    """Peaks, in GB: of this process on the host (mapped cache pages counted), and on the device."""
    unit = 1 if sys.platform == "darwin" else 1024
    peaks = {"host_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}
    if device.type == "cuda":
        peaks["device_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    return peaks


def achieved(numbers: dict) -> dict:
    """10^12 operations a second: of the matrix product, and of a run."""
    return {name: numbers[name]["mean"] * numbers["flop_per_patch"] / 1e12 for name in ("LIMIT", "FULL")}


def projection(report: dict) -> dict:
    """Hours of the whole ablation on KonIQ-10k with the recipe's numbers of patches, from the FULL rates."""
    seconds = {
        "training": TRAINING_PATCHES / report["training"]["FULL"]["mean"],
        "evaluation": EVALUATION_PATCHES / report["evaluation"]["FULL"]["mean"],
        "cache": KONIQ_IMAGES / report["cache"]["images_per_second"],
    }
    return {"hours": sum(seconds.values()) / 3600, **{f"{name}_hours": s / 3600 for name, s in seconds.items()}}


def print_report(report: dict) -> None:
    facts, cache = report["machine"], report["cache"]
    print(
        f"{facts['device']} ({facts['processor']}), {facts['precision']}, patch {facts['patch_size']}, "
        f"torch {facts['torch']}, torchvision {facts['torchvision']}, Python {facts['python']}\n"
    )
    print("| patches/s | training | evaluation |\n|---|---|---|")
    for name in ROWS:
        print(f"| {name} | " + " | ".join(cell(report[kind][name], DIGITS.get(name, 1)) for kind in KINDS) + " |")
    print(
        f"\nMean ± standard deviation of {len(report['training']['FULL']['trials'])} trials; batches of "
        f"{report['training']['batch_size']} and {report['evaluation']['batch_size']} patches."
    )
    for kind in KINDS:
        print(limit_line(kind, report[kind], facts["matrix_product"]))
    print(f"Cache build: {cache['images_per_second']:.0f} images/s ({cache['per_core']:.0f} per core)")
    print("Peak memory: " + ", ".join(f"{value:.2f} GB {name[:-3]}" for name, value in report["memory"].items()))
    print(f"The whole ablation on KonIQ-10k, projected: {report['ablation']['hours']:.1f} hours")


def cell(rate: dict, digits: int) -> str:
    return f"{rate['mean']:,.{digits}f} ± {rate['sd'] or 0:.{digits}f}"


def limit_line(kind: str, numbers: dict, product: dict) -> str:
    rates = numbers["achieved_tera_flop_per_second"]
    return (
        f"Of {rates['LIMIT']:.3f} TFLOP/s of the largest matrix product ({product['side']}x{product['side']}, "
        f"{product['dtype']}) {kind} does {rates['FULL']:.3f}: {numbers['FULL / LIMIT']['mean']:.1%}, "
        f"at {numbers['flop_per_patch'] / 1e9:.2f} GFLOP a patch"
    )

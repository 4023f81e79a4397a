"""The description of a run before it trains: config.json and the first lines of its log."""

import platform
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import scipy
import torch
import torchvision

from iqa.cli import say
from iqa.data.labels import QualityData
from iqa.models.flop import counted_flop
from iqa.models.variants import Variant
from iqa.models.weights import describe_backbone
from iqa.processes import process_count
from iqa.training.devices import device_name


def describe_run(flags: dict[str, Any], variant: Variant, data: QualityData, device: torch.device) -> dict[str, Any]:
    """The content of config.json, with which the run can be repeated."""
    return {
        "run_id": uuid.uuid4().hex,
        "variant": variant.log_name,
        "tag": variant.tag,
        **describe_backbone(variant.backbone, flags["weights"]),
        "flags": flags,
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
        "commit": current_commit(),
        "versions": {
            "python": platform.python_version(),
            **{m.__name__: str(m.__version__) for m in (torch, torchvision, np, scipy, sys.modules.get("timm")) if m},
            "pillow": PIL.__version__,
        },
        "device": device_name(device),
        "processes": process_count(),
        "split": {**data.sizes(), "sha256": data.sha256},
        "mos_range": [float(end) for end in data.mos_range],
        "dataset_note": data.note,
        "groups": data.groups,
    }


def size_of(model: torch.nn.Module, patch_size: int) -> dict[str, int | float]:
    """The number of parameters, and the multiplications and additions of one patch in evaluation, in 1e9."""
    training, device = model.training, next(model.parameters()).device
    with counted_flop() as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, patch_size, patch_size, device=device))
    model.train(training)
    count = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": count, "gflop_per_patch": round(counter.get_total_flops() / 1e9, 6)}


def current_commit() -> str | None:
    """The commit of this program, with "-dirty" if files differ from it; None outside a checkout."""
    here = Path(__file__).parent
    command = ["git", "-C", here, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def announce(config: dict, data: QualityData) -> None:
    sizes = ", ".join(f"{count:,} {name}" for name, count in data.sizes().items())
    say(f"{config['variant']}: {config['parameters']:,} parameters, seed {config['flags']['seed']}")
    processes = f"{process_count()} processes, each " if process_count() > 1 else ""
    say(f"Device: {processes}{config['device']}, {config['precision']}, torch {config['versions']['torch']}")
    say(f"Data: {data.root}: {sizes} images, split SHA-256 {data.sha256[:12]}")
    for line in [*([data.note] if data.note else []), *data.facts, *(f"Warning: {text}" for text in data.warnings)]:
        say(line)


def changed_processes(before: dict[str, Any]) -> str:
    """The end of the line about a resume with another number of processes; "" if the number is the same."""
    began = before.get("processes", 1)
    if began == process_count():
        return ""
    return (
        f", with {process_count()} processes instead of {began}: patches and batches are the same, dropout is not, "
        "so the results are not bitwise those of an uninterrupted run"
    )

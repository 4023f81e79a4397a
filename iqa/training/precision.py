"""The precision of a run: named by --precision, or the faster one of a few training steps in both."""

import copy
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import ConstantLR

from iqa.cli import say
from iqa.json_files import read_json
from iqa.training.devices import autocast, bf16_is_native
from iqa.training.optimization import LearningRates
from iqa.training.step import WARM_UP, choose_step

TIMED_STEPS = 3
CPU_BATCH = 8  # patches; a batch of the run would take seconds a step


def settled_precision(
    name: str, device: torch.device, before: dict[str, Any] | None, output: Path
) -> dict[str, Any] | None:
    """The entries of config.json if no measurement is needed, else None.

    --precision auto is that of the resumed run or of an earlier run of the ablation, so that no ablation mixes them.

    Args:
        before: config.json of the run to resume.
        output: the folder of the run, beside those of its ablation if the runner started it.
    """
    if name != "auto":
        return {"precision": name}
    if before is None and "ABLATION_RUN" in os.environ:
        configs = sorted(output.parent.glob("*/config.json"))
        before = read_json(configs[0], "remove its folder or name another --output_dir") if configs else None
    if before:
        return {key: before[key] for key in ("precision", "precision_seconds") if key in before}
    return None if bf16_is_native(device) else {"precision": "fp32"}


def measured_precision(
    eager_step: Callable, model: nn.Module, device: torch.device, batch_size: int, patch_size: int
) -> dict[str, Any]:
    """The entries of config.json with the faster precision and the seconds of a training step in each.

    Args:
        eager_step: model, optimizer, loss -> eager step.
    """
    seconds = {
        precision: step_seconds(eager_step, model, device, precision, batch_size, patch_size)
        for precision in ("fp32", "bf16")
    }
    precision = min(seconds, key=seconds.get)
    times = " and ".join(f"{value:.4g} s in {name}" for name, value in seconds.items())
    say(f"Precision: {precision}; a training step takes {times}")
    return {"precision": precision, "precision_seconds": seconds}


def step_seconds(
    eager_step: Callable, model: nn.Module, device: torch.device, precision: str, batch_size: int, patch_size: int
) -> float:
    """Seconds of the fastest of a few steps on random input, with a copy of the model."""
    model = copy.deepcopy(model).train()
    if device.type == "cpu":
        batch_size = min(batch_size, CPU_BATCH)
    inputs = torch.rand(batch_size, 3, patch_size, patch_size, device=device).to(memory_format=torch.channels_last)
    mos = torch.zeros(batch_size, device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0, fused=True)
    LearningRates(optimizer, ConstantLR(optimizer), as_tensors=device.type == "cuda")

    def loss_of(inputs: Tensor, mos: Tensor) -> Tensor:
        with autocast(device, precision):
            scores = model(inputs)
        return F.l1_loss(scores, mos)

    eager = eager_step(model, optimizer, loss_of)
    step = choose_step("auto", eager, device, warn=lambda text: None)
    for _ in range(1 if step is eager else WARM_UP + 1):
        step(inputs, mos)
    seconds = []
    for _ in range(TIMED_STEPS):
        wait_for(device)
        start = time.perf_counter()
        step(inputs, mos)
        wait_for(device)
        seconds.append(time.perf_counter() - start)
    return round(min(seconds), 6)  # other programs can only slow a step down


def wait_for(device: torch.device) -> None:
    """Wait for the device to finish."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)

"""Optimizers and learning rate schedules."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiplicativeLR,
    StepLR,
)

STEPS_DOWN = 3  # of --lr_schedule step: a tenth of the rate after each third of the run


class LearningRates:
    """The learning rates of an optimizer, which its schedule computes as Python floats, once a training step.

    Args:
        as_tensors: let the optimizer read them from tensors on the device, filled once a step: a captured training step
            (iqa/training/step.py) would freeze a float.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: LRScheduler, *, as_tensors: bool):
        self.optimizer, self.schedule = optimizer, schedule
        devices = [group["params"][0].device for group in optimizer.param_groups] if as_tensors else []
        self.tensors = [torch.zeros((), device=device) for device in devices]
        self.hand_over()

    def hand_over(self) -> None:
        """Store the rates of the schedule as floats, and copy them to the tensors that the optimizer reads."""
        self.floats = [group["lr"] for group in self.optimizer.param_groups]
        for group, tensor in zip(self.optimizer.param_groups, self.tensors, strict=bool(self.tensors)):
            group.update(lr=tensor.fill_(group["lr"]), capturable=True)

    def step(self) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.floats, strict=True):
            group["lr"] = rate
        self.schedule.step()
        self.hand_over()

    def state(self) -> dict[str, Any]:
        """The state of optimizer and schedule for a checkpoint; it does not depend on the device."""
        optimizer = self.optimizer.state_dict()
        for group, rate in zip(optimizer["param_groups"], self.floats, strict=True):
            group.update(lr=rate, capturable=False)
        return {"optimizer": optimizer, "schedule": self.schedule.state_dict()}

    def load(self, saved: dict[str, Any]) -> None:
        """Continue from `state`; a checkpoint without a schedule is of a run at a constant rate."""
        self.optimizer.load_state_dict(saved["optimizer"])
        if "schedule" in saved:
            self.schedule.load_state_dict(saved["schedule"])
        self.hand_over()


def build_schedule(
    optimizer: torch.optim.Optimizer,
    name: str,
    *,
    warmup_steps: int,
    epochs: int,
    steps_per_epoch: int,
    published: Callable[[int], tuple[float, ...]] | None = None,
) -> LRScheduler:
    """The learning rates over the steps of a run; `step` it once per training step.

    Args:
        name: value of --lr_schedule.
        published: epochs before -> rates of the optimizer's groups, by the recipe of a published model, whose schedule
            replaces "constant".
    """
    # The first step has 1 / warmup_steps of the rate, step number warmup_steps all of it.
    schedules = [LinearLR(optimizer, 1 / max(1, warmup_steps), total_iters=max(1, warmup_steps) - 1)]
    steps = epochs * steps_per_epoch
    if name == "cosine":
        schedules.append(CosineAnnealingLR(optimizer, steps))
    elif name == "step":
        schedules.append(StepLR(optimizer, -(-steps // STEPS_DOWN), gamma=0.1))
    elif published:

        def factor(group: int, step: int) -> float:
            """Factor of the rate before a step."""
            epoch, within = divmod(step, steps_per_epoch)
            before, now = (published(number)[group] for number in (epoch - 1, epoch))
            return now / before if before and not within else 1.0

        factors = [lambda step, group=group: factor(group, step) for group in range(len(optimizer.param_groups))]
        schedules.append(MultiplicativeLR(optimizer, factors))
    return ChainedScheduler(schedules)


def freeze_batch_norms(backbone: nn.Module) -> None:
    """Let the batch norms of a backbone in training mode use and keep their running statistics."""
    for layer in backbone.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()

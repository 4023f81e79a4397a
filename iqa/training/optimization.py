"""Learning rates, and batch norms that training does not change."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, MultiplicativeLR


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


def rates_by_epoch(
    optimizer: torch.optim.Optimizer, rates: Callable[[int], tuple[float, ...]], steps_per_epoch: int
) -> LRScheduler:
    """The schedule of a published model; `step` it once per training step.

    Args:
        rates: epochs before -> rate of each group of the optimizer.
    """

    def factor(group: int, step: int) -> float:
        """Factor of the rate before a step."""
        epoch, within = divmod(step, steps_per_epoch)
        before, now = (rates(number)[group] for number in (epoch - 1, epoch))
        return now / before if before and not within else 1.0

    groups = range(len(optimizer.param_groups))
    return MultiplicativeLR(optimizer, [functools.partial(factor, group) for group in groups])


def freeze_batch_norms(backbone: nn.Module) -> None:
    """Let the batch norms of a backbone in training mode use and keep their running statistics."""
    for layer in backbone.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()

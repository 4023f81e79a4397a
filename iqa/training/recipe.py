"""Training recipes: losses, schedules, --recipe best and the published recipes. Importing this file loads no torch."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from iqa.models.published import OWN

# L1 and Huber's loss are on the MOS scale. The batch losses are not: after an epoch, a linear map puts the scores on
# that scale (iqa/training/scored_model.py). docs/recipe.md names the papers.
LOSSES = ("l1", "huber", "norm_in_norm", "plcc", "rank")
BATCH_LOSSES = ("norm_in_norm", "plcc", "rank")
SCHEDULES = ("constant", "cosine", "step")

PUBLISHED_RECIPE = "published"
RECIPES = (OWN, "best", PUBLISHED_RECIPE)
# The flags that --recipe best sets, if they are not given.
BEST: dict[str, Any] = {
    "loss": "huber",
    "lr": 3e-4,  # rate of the backbone; that of the head is three times as high
    "head_lr_ratio": 3.0,
    "lr_schedule": "cosine",
    "patch_size": 320,
}


def in_steps(lr: float, ratio: float, before: int, epochs: int) -> tuple[float, float]:
    """HyperIQA's schedule. It sets the rate after an epoch by that epoch's number: seven epochs have the first rate."""
    return lr, lr * (ratio if before < 10 else 1.0) / 10 ** (max(0, before - 1) // 6)


def on_a_cosine(lr: float, ratio: float, before: int, epochs: int, floor: float = 1e-6) -> tuple[float, float]:
    """SMART-IQA's schedule, a CosineAnnealingLR. Its floor is above the backbone's rate, which therefore rises."""
    part = (1 + math.cos(math.pi * before / epochs)) / 2
    return tuple(floor + (rate - floor) * part for rate in (lr, lr * ratio))


class Recipe(NamedTuple):
    """The recipe of a published model.

    Attributes:
        optimizer: class name in torch.optim.
        rates: (--lr, --head_lr_ratio, epochs before, epochs of the run) -> learning rates of the backbone with its
            distortion modules, and of the rest.
        flags: those that --recipe published sets besides the numbers of patches, if they are not given.
    """

    optimizer: str
    rates: Callable[[float, float, int, int], tuple[float, float]]
    flags: dict[str, Any]


PUBLISHED_RECIPES = {
    "hyperiqa": Recipe(
        "Adam",
        in_steps,
        dict(head_lr_ratio=10.0, lr=2e-5, weight_decay=5e-4, batch_size=96, epochs=16, max_grad_norm=0.0),
    ),
    "smart_iqa": Recipe(
        "AdamW",
        on_a_cosine,
        dict(head_lr_ratio=10.0, lr=5e-7, weight_decay=2e-4, batch_size=32, epochs=10, max_grad_norm=1.0),
    ),
}

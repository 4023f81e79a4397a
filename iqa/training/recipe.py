"""Training recipes: losses, schedules, --recipe best and the published recipes. Importing this file loads no torch."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from iqa.models.published import OWN, PUBLISHED

# L1 and Huber's loss are on the MOS scale. The batch losses are not: after an epoch, a linear map puts the scores on
# that scale (iqa/training/scored_model.py). docs/recipe.md names the papers.
LOSSES = ("l1", "huber", "norm_in_norm", "plcc", "rank")
BATCH_LOSSES = ("norm_in_norm", "plcc", "rank")
SCHEDULES = ("constant", "cosine", "step")

PUBLISHED_RECIPE = "published"
# --recipe best: the flags that it sets, if they are not given.
BEST: dict[str, Any] = {
    "loss": "huber",
    "lr": 3e-4,  # rate of the backbone; that of the head is three times as high
    "head_lr_ratio": 3.0,
    "lr_schedule": "cosine",
    "patch_size": 320,
}
RECIPES = (OWN, "best", PUBLISHED_RECIPE)


class Recipe(NamedTuple):
    """The recipe of a published model; the fields after `schedule` are named like the flags."""

    optimizer: str  # class name in torch.optim
    schedule: Callable[..., tuple[float, float]]  # (recipe, epochs before, epochs of the run) -> learning_rates
    head_lr_ratio: float  # learning rate of the rest over that of the backbone and its distortion modules
    lr: float  # learning rate of the backbone
    weight_decay: float
    batch_size: int
    epochs: int
    train_patch_num: int
    test_patch_num: int
    max_grad_norm: float

    def learning_rates(self, before: int, epochs: int) -> tuple[float, float]:
        """Rates of the backbone and of the rest after `before` of the run's `epochs`."""
        return self.schedule(self, before, epochs)


def in_steps(recipe: Recipe, before: int, epochs: int) -> tuple[float, float]:
    """HyperIQA's schedule. It sets the rate after an epoch by that epoch's number: seven epochs have the first rate."""
    ratio = recipe.head_lr_ratio if before < 10 else 1.0
    return recipe.lr, recipe.lr * ratio / 10 ** (max(0, before - 1) // 6)


def on_a_cosine(recipe: Recipe, before: int, epochs: int, floor: float = 1e-6) -> tuple[float, float]:
    """SMART-IQA's schedule, a CosineAnnealingLR. Its floor is above the backbone's rate, which therefore rises."""
    part = (1 + math.cos(math.pi * before / epochs)) / 2
    return tuple(floor + (rate - floor) * part for rate in (recipe.lr, recipe.lr * recipe.head_lr_ratio))


RECIPE_FLAGS = Recipe._fields[Recipe._fields.index("schedule") + 1 :]
PUBLISHED_RECIPES = {
    "hyperiqa": Recipe(
        "Adam",
        in_steps,
        head_lr_ratio=10.0,
        lr=2e-5,
        weight_decay=5e-4,
        batch_size=96,
        epochs=16,
        train_patch_num=PUBLISHED["hyperiqa"].patch_num,
        test_patch_num=PUBLISHED["hyperiqa"].patch_num,
        max_grad_norm=0.0,
    ),
    "smart_iqa": Recipe(
        "AdamW",
        on_a_cosine,
        head_lr_ratio=10.0,
        lr=5e-7,
        weight_decay=2e-4,
        batch_size=32,
        epochs=10,
        train_patch_num=PUBLISHED["smart_iqa"].patch_num,
        test_patch_num=PUBLISHED["smart_iqa"].patch_num,
        max_grad_norm=1.0,
    ),
}


def published_recipe(model: str, flags: Mapping[str, Any]) -> Recipe:
    """The recipe of a published model, with the values that the flags have."""
    return PUBLISHED_RECIPES[model]._replace(**{name: flags[name] for name in RECIPE_FLAGS})

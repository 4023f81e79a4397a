"""What a run may be trained with beside the recipe under test, and the one table of --recipe best. This file does without torch."""

from typing import Any

from iqa.models.published import OWN

# docs/recipe.md has the papers. L1 and Huber's loss are on the MOS scale; the others see a whole batch and only its order
# or its linear relation, so that their scores are put on the MOS scale by a line (iqa/training/scored_model.py).
LOSSES = ("l1", "huber", "norm_in_norm", "plcc", "rank")
OF_A_BATCH = ("norm_in_norm", "plcc", "rank")
SCHEDULES = ("constant", "cosine", "step")

PUBLISHED_RECIPE = "published"
# --recipe best: the flags that it sets, where they are not given.
BEST: dict[str, Any] = {
    "loss": "huber",
    "lr": 3e-4,  # of the backbone; the head has three times that
    "head_lr_ratio": 3.0,
    "lr_schedule": "cosine",
    "patch_size": 320,
}
RECIPES = (OWN, "best", PUBLISHED_RECIPE)

if __name__ == "__main__":  # for the runner, whose rows share their patches where not their recipe
    print(BEST["patch_size"])

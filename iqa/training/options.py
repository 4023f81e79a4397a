"""Flags that depend on each other: values that a recipe or a published model sets, and contradictions. No torch."""

import argparse
import importlib.util
from collections.abc import Iterator

from iqa.data.flags import patch_mistake
from iqa.models.backbones import STRIDE, backbone_problem, patch_size_problem
from iqa.models.published import OWN, PATCH_MULTIPLE, PUBLISHED
from iqa.models.variants import ATTENTION_ALONE
from iqa.training.live_view import INSTALL
from iqa.training.recipe import BATCH_LOSSES, BEST, PUBLISHED_RECIPE, PUBLISHED_RECIPES

VARIANT_FLAGS = ("backbone", "use_multiscale", "use_attention", "dropout_rate")  # a published model has its own values


def apply_recipe(flags: argparse.Namespace, given: set[str]) -> None:
    """Replace the defaults that a recipe or a published model decides; `given` are the flags of the command line."""
    values = {}
    if flags.model != OWN:
        model = PUBLISHED[flags.model]
        values = {name: getattr(model.variant, name, None) for name in VARIANT_FLAGS}
        if flags.recipe == PUBLISHED_RECIPE:
            values |= PUBLISHED_RECIPES[flags.model].flags
            values |= {"train_patch_num": model.patch_num, "test_patch_num": model.patch_num}
    if flags.recipe == "best":
        values |= BEST
    vars(flags).update({name: value for name, value in values.items() if name not in given})


def find_mistakes(flags: argparse.Namespace, given: set[str], processes: int) -> Iterator[str]:
    """The contradictions between completed flags.

    Args:
        given: the flags of the command line.
        processes: the number that share each batch.
    """
    batch, published = flags.batch_size, flags.recipe == PUBLISHED_RECIPE
    if published and flags.model == OWN:
        yield f"--recipe {flags.recipe} is that of a published model: add --model {' or '.join(PUBLISHED)}"
    if published and "lr_schedule" in given and flags.lr_schedule == "constant":
        yield (
            "--lr_schedule constant: --recipe published has its own schedule; leave one of them out, or choose "
            "cosine or step"
        )
    foreign = [f"--{name}" for name in VARIANT_FLAGS if name in given]
    if foreign and flags.model != OWN:
        yield f"--model {flags.model} is built as it was published: leave out {', '.join(foreign)}"
    if flags.use_attention and not flags.use_multiscale:
        yield ATTENTION_ALONE
    if batch % processes:
        yield f"--batch_size {batch}: {processes} processes share it evenly; choose a multiple of {processes}"
    if batch == 1 and flags.loss in BATCH_LOSSES:
        yield (
            f"--loss {flags.loss} compares the images of a batch: raise --batch_size, which is 1, or choose l1 or huber"
        )
    if batch == 1 and flags.patch_size <= STRIDE:
        yield f"--batch_size 1 with --patch_size {flags.patch_size}: batch norm needs two values; raise one of them"
    if "/" in flags.checkpoint_suffix:
        yield f"--checkpoint_suffix {flags.checkpoint_suffix}: part of a file name; folders go to --checkpoint_dir"
    if flags.resume and flags.overwrite:
        yield "--resume continues a run and --overwrite replaces it: choose one"
    if flags.tensorboard and importlib.util.find_spec("tensorboard") is None:
        yield f"--tensorboard needs the package tensorboard: {INSTALL}"
    problems = [patch_mistake(flags, given)]
    if flags.model != OWN:
        problems.append(patch_size_problem(PUBLISHED[flags.model].title, PATCH_MULTIPLE, flags.patch_size))
    problems.append(backbone_problem(flags.backbone, patch_size=flags.patch_size, drop_path_rate=flags.drop_path_rate))
    yield from filter(None, problems)

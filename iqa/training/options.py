"""Flags that depend on each other: values that a recipe or a published model sets, and contradictions. No torch."""

import argparse

from iqa.data.flags import patch_mistake
from iqa.models.backbones import STRIDE, backbone_problem, patch_size_problem
from iqa.models.published import OWN, PATCH_MULTIPLE, PUBLISHED
from iqa.models.variants import ATTENTION_ALONE
from iqa.training.live_view import INSTALL, is_installed
from iqa.training.recipe import BATCH_LOSSES, BEST, PUBLISHED_RECIPE, PUBLISHED_RECIPES, RECIPE_FLAGS

VARIANT_FLAGS = ("backbone", "use_multiscale", "use_attention", "dropout_rate")  # a published model has its own values


def complete_flags(flags: argparse.Namespace, given: set[str], processes: int) -> str | None:
    """Replace the defaults that a recipe or a published model decides.

    Args:
        given: the flags that the command line contains.
        processes: the number that share each batch.

    Returns:
        A contradiction between the flags, or None.
    """
    mistake = published_mistake(flags, given)
    if mistake:
        return mistake
    if flags.model != OWN:
        variant = PUBLISHED[flags.model].variant._asdict()
        vars(flags).update({name: variant.get(name) for name in VARIANT_FLAGS})
    if flags.recipe == PUBLISHED_RECIPE:
        recipe = PUBLISHED_RECIPES[flags.model]._asdict()
        vars(flags).update({name: recipe[name] for name in RECIPE_FLAGS if name not in given})
    if flags.recipe == "best":
        vars(flags).update({name: value for name, value in BEST.items() if name not in given})
    return (
        recipe_mistake(flags, processes)
        or place_mistake(flags)
        or patch_mistake(flags, given)
        or backbone_mistake(flags)
    )


def published_mistake(flags: argparse.Namespace, given: set[str]) -> str | None:
    if flags.recipe == PUBLISHED_RECIPE and flags.model == OWN:
        return f"--recipe {flags.recipe} is that of a published model: add --model {' or '.join(PUBLISHED)}"
    if flags.recipe == PUBLISHED_RECIPE and "lr_schedule" in given and flags.lr_schedule == "constant":
        return (
            "--lr_schedule constant: --recipe published has its own schedule; leave one of them out, or choose "
            "cosine or step"
        )
    foreign = [f"--{name}" for name in VARIANT_FLAGS if name in given]
    if foreign and flags.model != OWN:
        return f"--model {flags.model} is built as it was published: leave out {', '.join(foreign)}"
    return None


def recipe_mistake(flags: argparse.Namespace, processes: int) -> str | None:
    batch = flags.batch_size
    if flags.use_attention and not flags.use_multiscale:
        return ATTENTION_ALONE
    if batch % processes:
        return f"--batch_size {batch}: {processes} processes share it evenly; choose a multiple of {processes}"
    if batch == 1 and flags.loss in BATCH_LOSSES:
        return (
            f"--loss {flags.loss} compares the images of a batch: raise --batch_size, which is 1, or choose l1 or huber"
        )
    if batch == 1 and flags.patch_size <= STRIDE:
        return f"--batch_size 1 with --patch_size {flags.patch_size}: batch norm needs two values; raise one of them"
    return None


def place_mistake(flags: argparse.Namespace) -> str | None:
    """A contradiction between the flags for input and output, or None."""
    if "/" in flags.checkpoint_suffix:
        return f"--checkpoint_suffix {flags.checkpoint_suffix}: part of a file name; folders go to --checkpoint_dir"
    if flags.resume and flags.overwrite:
        return "--resume continues a run and --overwrite replaces it: choose one"
    if flags.tensorboard and not is_installed():
        return f"--tensorboard needs the package tensorboard: {INSTALL}"
    return None


def backbone_mistake(flags: argparse.Namespace) -> str | None:
    """The error of --backbone, or of --patch_size and --drop_path_rate for it, or None."""
    mistake = None
    if flags.model != OWN:
        mistake = patch_size_problem(PUBLISHED[flags.model].title, PATCH_MULTIPLE, flags.patch_size)
    return mistake or backbone_problem(flags.backbone, patch_size=flags.patch_size, drop_path_rate=flags.drop_path_rate)

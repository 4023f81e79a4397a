"""The flags that say how a data set is read: for training, for scoring and for the check of a folder."""

import argparse
import math
from dataclasses import dataclass

from iqa.cli import flag, number
from iqa.data.datasets import DATASETS

MOST_PATCHES = 10_000  # of an image
STANDARD = "koniq-10k"  # the data set of the experiment; its split is fixed


@dataclass(frozen=True)
class DatasetFlags:
    """data set"""

    dataset: str | None = flag(
        STANDARD,
        "layout of the data folder; csv: any folder with a labels.csv of image,mos[,split]",
        choices=tuple(DATASETS),
    )
    mos_range: list[float] | None = flag(
        None,
        "ends of the MOS scale of --dataset csv; default: the lowest and highest MOS of its file",
        nargs=2,
        type=number(float, -math.inf),
        metavar=("LOW", "HIGH"),
    )
    split_seed: int | None = flag(
        0, "seed of a drawn split or validation set, if the data set has none; --seed does not change it", low=0
    )
    split_file: str | None = flag(None, "csv of image,split, such as the split.csv of a run", metavar="CSV")


@dataclass(frozen=True)
class PatchFlags(DatasetFlags):
    """data set and its patches"""

    cache_dir: str | None = flag(
        None, "folder of the resized images; default: cache/ in the data folder", metavar="DIR", may_change=True
    )
    no_cache: bool = flag(False, "decode an image again for each of its patches (slow)", may_change=True)
    preload_images: str = flag(
        "auto",
        "memory for the resized images; auto: GPU memory if they are cached and take at most half of what is free, "
        "else none; without a value: GPU memory if they fit, else host memory",
        nargs="?",
        choices=("auto", "gpu", "host", "no", "yes"),
        const="yes",
        metavar="auto|gpu|host|no",
        may_change=True,
    )
    num_workers: int = flag(
        -1, "number of workers that cut patches; -1: 0 on a CPU, up to 4 with a GPU", low=-1, may_change=True
    )


def patch_mistake(options: argparse.Namespace, given: set[str]) -> str | None:
    """A contradiction between the `PatchFlags`, or None; see `dataset_mistake`."""
    if options.no_cache and options.cache_dir:
        return f"--cache_dir {options.cache_dir} and --no_cache contradict each other: choose one"
    if options.dataset not in (None, STANDARD) and "data_path" not in given:
        return f"--dataset {options.dataset} needs --data_path: the folder of its labels and images"
    return dataset_mistake(options, given)


def dataset_mistake(options: argparse.Namespace, given: set[str]) -> str | None:
    """A contradiction between these flags, or None.

    Args:
        given: names of the flags on the command line; `options.dataset` is None if a checkpoint decides it.
    """
    foreign = [f"--{name}" for name in ("split_seed", "split_file") if name in given]
    if foreign and options.dataset in (None, STANDARD):
        others = ", ".join(name for name in DATASETS if name != STANDARD)
        return f"{foreign[0]} is for {others}, which have to be named with --dataset"
    if options.mos_range and options.dataset != "csv":
        return "--mos_range is for --dataset csv: the scale of the others is known"
    if options.mos_range and options.mos_range[0] >= options.mos_range[1]:
        low, high = options.mos_range
        return f"--mos_range {low:g} {high:g}: LOW must be below HIGH"
    return None

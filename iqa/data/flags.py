"""The flags that say how a data set is read, for training and for the check of a folder."""

import argparse
import math
from dataclasses import dataclass

from iqa.cli import flag, number
from iqa.data.datasets import DATASETS

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
        "ends of the MOS scale of --dataset csv; default: the lowest and highest of its file",
        nargs=2,
        type=number(float, -math.inf),
        metavar=("LOW", "HIGH"),
    )
    split_seed: int | None = flag(
        0, "seed of a split that is drawn if the data have none; --seed does not change it", low=0
    )
    split_file: str | None = flag(None, "image,split columns, such as the split.csv of a run", metavar="CSV")


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

"""The flags of score_images.py. This file does without torch."""

import argparse
from pathlib import Path

from iqa.cli import OneLineParser, given_flags, number
from iqa.data.flags import STANDARD, add_dataset_flags, dataset_mistake

IMAGE_FLAGS = ("patches", "attention", "batch_size", "output", "report")
DATA_FLAGS = ("dataset", "data_path", "set", "mos_range", "split_seed", "split_file", "cache_dir", "no_cache")
DATA_FLAGS += ("preload_images", "num_workers", "output_dir", "overwrite")


def build_parser(description: str | None = None) -> OneLineParser:
    parser = OneLineParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=Path,
        metavar="PATH",
        help="a _best.pth or _last.pth, which decides variant, patch size and number of patches, or weights published "
        "for HyperIQA or SMART-IQA",
    )
    parser.add_argument("--device", default="auto", help="auto (CUDA if there is a GPU), cpu, cuda or cuda:N")
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="of the arithmetic before the score path; auto: that of the run, but bf16 only if the device has it natively",
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    add_image_flags(parser.add_argument_group("scores of images"))
    add_data_flags(parser.add_argument_group("evaluation of a labelled data set, instead of images"))
    parser.set_defaults(dataset=None, split_seed=None)  # the checkpoint decides what is not given
    return parser


def add_image_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "images", nargs="*", metavar="IMAGE", help="a file, a folder (searched with all below it) or a quoted pattern"
    )
    group.add_argument(
        "--patches",
        type=patch_choice,
        default="auto",
        metavar="auto|checkpoint|N",
        help="auto: the number of the run's evaluation if they cover 80%% of a picture, otherwise the smallest grid that "
        "does; checkpoint: exactly the patches of the evaluation; N: an even grid of N patches",
    )
    group.add_argument("--attention", action="store_true", help="add the weights of the four scales")
    group.add_argument("--output", type=ending(".csv", ".json"), metavar="FILE", help="scores.csv or scores.json")
    group.add_argument("--report", type=ending(".html", ".htm"), metavar="FILE", help="a page for a browser")
    group.add_argument(
        "--batch_size", type=number(int, 1), metavar="N", help="patches at a time; default: 64 on a CPU, 256 on a GPU"
    )


def add_data_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--data_path", metavar="DIR", help="labels and images; default: those of the checkpoint's run")
    group.add_argument(
        "--set",
        choices=("auto", "val", "test", "all"),
        default="auto",
        help="images to score; auto: test for the split that the checkpoint was trained with, all for other data",
    )
    add_dataset_flags(group)
    group.add_argument("--cache_dir", metavar="DIR", help="resized images; default: cache/ in the data folder")
    group.add_argument("--no_cache", action="store_true", help="decode an image for each of its patches (slow)")
    group.add_argument(
        "--preload_images",
        nargs="?",
        choices=("auto", "gpu", "host", "no", "yes"),
        const="yes",
        default="auto",
        metavar="auto|gpu|host|no",
        help="memory that holds the resized images; auto: that of the GPU if they are cached and fit into half of it",
    )
    group.add_argument(
        "--num_workers",
        type=number(int, -1),
        default=-1,
        help="processes that cut patches; -1: 0 on a CPU, 4 for a GPU",
    )
    group.add_argument(
        "--output_dir", metavar="DIR", help="predictions; default: logs/evaluation_<name of the checkpoint>"
    )
    group.add_argument("--overwrite", action="store_true", help="replace an earlier evaluation")


def ending(*allowed: str):
    """An argparse type: a path with one of the endings."""

    def parse(text):
        path = Path(text)
        if path.suffix.lower() not in allowed:
            raise argparse.ArgumentTypeError(f"{text!r} does not end in {' or '.join(allowed)}")
        return path

    return parse


def patch_choice(text: str) -> str | int:
    """The argparse type of --patches."""
    if text in ("auto", "checkpoint"):
        return text
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, checkpoint or a number of patches, at least 1")
    return int(text)


def parse_options(description: str | None, argv: list[str] | None, about: str = "") -> argparse.Namespace:
    """The flags, checked without a look at files and devices; `about` is put before an error."""
    parser = build_parser(description)
    parser.about = about
    options = parser.parse_args(argv)
    mistake = contradiction(options, given_flags(parser, argv, options))
    if mistake:
        parser.error(mistake)
    return options


def contradiction(options: argparse.Namespace, given: set[str]) -> str | None:
    """What is wrong with the flags together."""
    for_data, for_images = ([f"--{name}" for name in names if name in given] for names in (DATA_FLAGS, IMAGE_FLAGS))
    if options.images:
        return f"{for_data[0]} is for a labelled data set: leave it out, or the images" if for_data else None
    if not for_data:
        return "name an IMAGE to score, or a labelled data set by --data_path and --dataset"
    if for_images:
        return f"{for_images[0]} is for images, not for a labelled data set: leave it out"
    if options.no_cache and options.cache_dir:
        return f"--cache_dir {options.cache_dir} and --no_cache contradict each other: choose one"
    if options.dataset not in (None, STANDARD) and not options.data_path:
        return f"--dataset {options.dataset} needs --data_path: the folder of its labels and images"
    return dataset_mistake(options, given)

"""The flags of score_images.py. This file does not load torch."""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

from iqa.cli import OneLineParser, add_flags, flag, given_flags
from iqa.data.flags import MOST_PATCHES, PatchFlags, patch_mistake


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
    if not text.isdecimal() or not 1 <= int(text) <= MOST_PATCHES:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not auto, checkpoint or a number of patches, 1 to {MOST_PATCHES}"
        )
    return int(text)


@dataclass(frozen=True)
class CommonFlags:
    checkpoint: Path = flag(
        None,
        "a _best.pth or _last.pth, whose run decides the model and the patches, or weights published for HyperIQA or "
        "SMART-IQA",
        required=True,
        type=Path,
        metavar="PATH",
    )
    device: str = flag("auto", "auto (CUDA if there is a GPU), cpu, cuda or cuda:N")
    precision: str = flag(
        "auto",
        "precision of the layers before the score path; auto: as in the run, but bf16 only if the device has it",
        choices=("auto", "fp32", "bf16"),
    )
    traceback: bool = flag(False, "show where an error came from")


@dataclass(frozen=True)
class ImageFlags:
    """scores of images"""

    patches: str | int = flag(
        "auto",
        "auto: as many as in the run's evaluation if they cover 80%% of an image, otherwise the smallest grid that "
        "does; checkpoint: exactly the patches of the evaluation; N: an even grid of N patches",
        type=patch_choice,
        metavar="auto|checkpoint|N",
    )
    attention: bool = flag(False, "also print and write the weights of the four scales")
    output: Path | None = flag(None, "file of scores, .csv or .json", type=ending(".csv", ".json"), metavar="FILE")
    report: Path | None = flag(None, "HTML page of the scores", type=ending(".html", ".htm"), metavar="FILE")
    batch_size: int | None = flag(None, "patches at a time; default: 64 on a CPU, 256 on a GPU", low=1, metavar="N")


@dataclass(frozen=True)
class EvaluationFlags(PatchFlags):
    """evaluation of a labelled data set, instead of images"""

    data_path: str | None = flag(None, "labels and images; default: those of the checkpoint's run", metavar="DIR")
    set: str = flag(
        "auto",
        "images to score; auto: test if labels and split are those of the checkpoint's run, otherwise all",
        choices=("auto", "val", "test", "all"),
    )
    output_dir: str | None = flag(None, "results; default: logs/evaluation_<name of the checkpoint>", metavar="DIR")
    overwrite: bool = flag(False, "replace an earlier evaluation")


def parse_options(description: str | None, argv: list[str] | None, about: str = "") -> argparse.Namespace:
    """The flags, checked without access to files and devices; `about` is the prefix of an error."""
    parser = OneLineParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.about = about
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="a file, a folder (searched with all below it) or a quoted pattern"
    )
    add_flags(parser, CommonFlags)
    for section in (ImageFlags, EvaluationFlags):
        add_flags(parser.add_argument_group(section.__doc__), section)
    parser.set_defaults(dataset=None, split_seed=None)  # the defaults are those of the checkpoint
    options = parser.parse_args(argv)
    mistake = contradiction(options, given_flags(parser, argv, options))
    if mistake:
        parser.error(mistake)
    return options


def contradiction(options: argparse.Namespace, given: set[str]) -> str | None:
    """A contradiction between the flags, or None."""
    for_images, for_data = (
        next((f"--{field.name}" for field in fields(section) if field.name in given), None)
        for section in (ImageFlags, EvaluationFlags)
    )
    if options.images:
        return for_data and f"{for_data} is for a labelled data set: leave it out, or the images"
    if not for_data:
        return "name an IMAGE to score, or a labelled data set by --data_path and --dataset"
    if for_images:
        return f"{for_images} is for images, not for a labelled data set: leave it out"
    return patch_mistake(options, given)

"""The flags of score_images.py."""

import argparse
from pathlib import Path

from iqa.cli import OneLineParser, number


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
    try:
        return number(int, 1)(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not auto, checkpoint or a number of patches, at least 1"
        ) from None


def build_parser(description: str | None = None) -> argparse.ArgumentParser:
    parser = OneLineParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="a file, a folder (searched with all below it) or a quoted pattern"
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=Path,
        metavar="PATH",
        help="a _best.pth or _last.pth, which decides variant, patch size and number of patches, or weights published "
        "for HyperIQA or SMART-IQA",
    )
    parser.add_argument(
        "--patches",
        type=patch_choice,
        default="auto",
        metavar="auto|checkpoint|N",
        help="auto: the number of the run's evaluation if they cover 80%% of a picture, otherwise the smallest grid that "
        "does; checkpoint: exactly the patches of the evaluation; N: an even grid of N patches",
    )
    parser.add_argument("--attention", action="store_true", help="add the weights of the four scales")

    output = parser.add_argument_group("output")
    output.add_argument("--output", type=ending(".csv", ".json"), metavar="FILE", help="scores.csv or scores.json")
    output.add_argument("--report", type=ending(".html", ".htm"), metavar="FILE", help="a page to look at in a browser")
    output.add_argument("--traceback", action="store_true", help="show where an error came from")

    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", default="auto", help="auto (CUDA where there is one), cpu, cuda or cuda:N")
    machine.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="of the arithmetic before the score path; auto: that of the run, but bf16 only where "
        "the device has it natively",
    )
    machine.add_argument(
        "--batch_size", type=number(int, 1), metavar="N", help="patches at a time; default: 64 on a CPU, 256 on a GPU"
    )
    return parser

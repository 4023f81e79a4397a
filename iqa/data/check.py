"""What a data folder holds, or the one line that says what is wrong with it: python3 data_loader.py DIR."""

import argparse

from iqa.command_line import HelpWithDefaults, OneLineParser, first_line, given_flags, report
from iqa.console import say
from iqa.data.datasets import load_dataset
from iqa.data.flags import add_dataset_flags, dataset_mistake
from iqa.data.labels import QualityData

DESCRIPTION = "Check a data folder and print its split, before hours of training. No image is opened."
WITHOUT = {  # a set that has no images
    "training": "0 training images: a run cannot train on this folder; a checkpoint can score it (--evaluate)",
    "validation": "0 validation images: a run chooses its epoch on test, so that its Selected Test is the peak over "
                  "the epochs, which is optimistic",
    "test": "0 test images: a run cannot be tested on this folder",
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Print what the folder holds; returns the exit status."""
    options = parse(arguments)
    try:
        data = load_dataset(options.dataset, options.folder, mos_range=options.mos_range,
                            split_seed=options.split_seed, split_file=options.split_file)  # fmt: skip
    except (OSError, ValueError) as error:
        report(first_line(error))
        return 1
    for line in describe(options.dataset, data):
        say(line)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser(prog="data_loader.py", description=DESCRIPTION, formatter_class=HelpWithDefaults,
                           allow_abbrev=False)  # fmt: skip
    parser.add_argument("folder", nargs="?", default="./koniq-10k", metavar="DIR", help="labels and images")
    add_dataset_flags(parser)
    options = parser.parse_args(arguments)
    mistake = dataset_mistake(options, given_flags(parser, arguments, options))
    if mistake:
        parser.error(mistake)
    return options


def describe(name: str, data: QualityData) -> list[str]:
    sizes = ", ".join(f"{size:,} {set_name}" for set_name, size in data.sizes().items())
    return [
        f"Data set: {name}" + f", {data.note}" * bool(data.note),
        *data.facts,
        *(f"Warning: {text}" for text in data.warnings),
        *(WITHOUT[set_name] for set_name, size in data.sizes().items() if not size),
        f"{data.root}: {sizes} images, split SHA-256 {data.sha256}",
    ]

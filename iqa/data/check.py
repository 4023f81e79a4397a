"""What a data folder holds, or the one line that says what is wrong with it: python3 data_loader.py DIR."""

import argparse
from pathlib import Path

from iqa.atomic_files import check_writable, write_atomically
from iqa.cli import Command, HelpWithDefaults, OneLineParser, given_flags, number, say
from iqa.data.datasets import load_dataset
from iqa.data.flags import add_dataset_flags, dataset_mistake
from iqa.data.labels import QualityData

DISTANCE = 2  # of the 64 bits of a hash; in BIQ2021 the matches by chance, about 5 of 159, double with each further bit
DESCRIPTION = (
    "Check a data folder and print its split, before hours of training. No image is opened, but with --near_copies "
    "every one."
)
WITHOUT = {  # a set that has no images
    "training": "0 training images: a run cannot train on this folder; a checkpoint can score it (--evaluate)",
    "validation": "0 validation images: a run chooses its epoch on test, so that its Selected Test is the peak over "
    "the epochs, which is optimistic",
    "test": "0 test images: a run cannot be tested on this folder",
}


def main(argv: list[str] | None = None) -> int:
    """Print what the folder holds, and on request which test images have near copies; returns the exit status."""
    with Command(argv) as command:
        check(parse(argv))
    return command.status


def check(options: argparse.Namespace) -> None:
    check_writable("--near_copies", options.near_copies)
    data = load_dataset(
        options.dataset,
        options.folder,
        mos_range=options.mos_range,
        split_seed=options.split_seed,
        split_file=options.split_file,
    )
    for line in describe(options.dataset, data):
        say(line)
    if options.near_copies:
        from iqa.data.near_copies import as_lines, describe_near_copies, find_near_copies  # only now: it loads Pillow

        copies = find_near_copies(data, options.hash_distance)
        write_atomically(options.near_copies, as_lines(copies.found))
        say(describe_near_copies(copies, options.hash_distance, options.near_copies))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser(
        prog="data_loader.py", description=DESCRIPTION, formatter_class=HelpWithDefaults, allow_abbrev=False
    )
    parser.add_argument("folder", nargs="?", default="./koniq-10k", metavar="DIR", help="labels and images")
    add_dataset_flags(parser)
    parser.add_argument(
        "--near_copies",
        type=Path,
        metavar="FILE",
        help="write there which test images have a near copy to train or validate on, for report_ablation.py "
        "--without FILE; a minute or two for 12,000 images",
    )
    parser.add_argument(
        "--hash_distance",
        type=number(int, 0, 32),
        default=DISTANCE,
        metavar="BITS",
        help="of the 64 of two difference hashes may differ in a near copy",
    )
    options = parser.parse_args(arguments)
    given = given_flags(parser, arguments, options)
    mistake = dataset_mistake(options, given)
    if "hash_distance" in given and not options.near_copies:
        mistake = "--hash_distance is for --near_copies FILE"
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

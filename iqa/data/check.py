"""The check of a data folder: python3 data_loader.py DIR."""

import argparse
from pathlib import Path

from iqa.atomic_files import check_writable, write_atomically
from iqa.cli import Command, HelpWithDefaults, OneLineParser, add_flags, first_line, given_flags, number, printable, say
from iqa.data.datasets import load_dataset
from iqa.data.flags import DatasetFlags, dataset_mistake
from iqa.data.labels import QualityData

DISTANCE = 2  # bits, of 64; in BIQ2021 the matches by chance, about 5 of 159, double with each further bit
DESCRIPTION = "Check a data folder and print its split. Images are opened only with --decode or --near_copies."
EMPTY_SET = {
    "training": "0 training images: a run cannot train on this folder; score_images.py --data_path can score it",
    "validation": "0 validation images: a run chooses its epoch on test, so that its Selected Test is the peak over "
    "the epochs, which is optimistic",
    "test": "0 test images: a run cannot be tested on this folder",
}


def main(argv: list[str] | None = None) -> int:
    with Command(argv) as command:
        command.status = check(parse(argv))
    return command.status


def check(options: argparse.Namespace) -> int:
    """Print the contents and the errors of the folder; returns the exit status."""
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
    unreadable, total = 0, sum(data.sizes().values())
    if options.decode:
        from iqa.data.images import decoding_errors  # here and below, because it loads Pillow

        for error in decoding_errors(data.paths()):
            say(printable(first_line(error)))
            unreadable += 1
        say(f"Decoded {total - unreadable:,} of {total:,} images, {unreadable:,} unreadable")
    if options.near_copies:
        from iqa.data.near_copies import find_near_copies

        copies, by_chance = find_near_copies(data, options.hash_distance)
        write_atomically(options.near_copies, "".join("\t".join(map(str, copy)) + "\n" for copy in copies))
        say(
            f"Near copies: {len(copies):,} of {len(data.sets['test']):,} test images are within "
            f"{options.hash_distance} of 64 bits of a training or validation image ({by_chance:,} "
            f"{'is' if by_chance == 1 else 'are'} when mirrored, so about as many may be alike by chance); "
            f"wrote {options.near_copies}"
        )
    return 1 if unreadable else 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser(
        prog="data_loader.py", description=DESCRIPTION, formatter_class=HelpWithDefaults, allow_abbrev=False
    )
    parser.add_argument("folder", nargs="?", default="./koniq-10k", metavar="DIR", help="folder of labels and images")
    add_flags(parser, DatasetFlags)
    parser.add_argument("--decode", action="store_true", help="decode every image and list those that cannot be read")
    parser.add_argument(
        "--near_copies",
        type=Path,
        metavar="FILE",
        help="write the test images that have a near copy among the training and validation images to FILE, for "
        "report_ablation.py --without FILE; takes 1 to 2 minutes for 12,000 images",
    )
    parser.add_argument(
        "--hash_distance",
        type=number(int, 0, 32),
        default=DISTANCE,
        metavar="BITS",
        help="most bits, of 64, in which the difference hashes of an image and its near copy differ",
    )
    options = parser.parse_args(argv)
    given = given_flags(parser, argv, options)
    mistake = dataset_mistake(options, given)
    if "hash_distance" in given and not options.near_copies:
        mistake = "--hash_distance is for --near_copies FILE"
    if mistake:
        parser.error(mistake)
    return options


def describe(name: str, data: QualityData) -> list[str]:
    sizes = ", ".join(f"{size:,} {set_name}" for set_name, size in data.sizes().items())
    undefined = filter(None, map(data.undefined_correlation, data.sets))
    return [
        f"Data set: {name}" + f", {data.note}" * bool(data.note),
        *data.facts,
        *(f"Warning: {text}" for text in [*data.warnings, *undefined]),
        *(EMPTY_SET[set_name] for set_name, size in data.sizes().items() if not size),
        f"{data.root}: {sizes} images, split SHA-256 {data.sha256}",
    ]

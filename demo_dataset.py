#!/usr/bin/env python3
"""Write a KonIQ-shaped data set of procedural scenes with graded faults, for trying the program without KonIQ-10k.

    python3 demo_dataset.py --output demo-data --images 300
    python3 demo_dataset.py --output demo-koniq --metadata koniq10k_distributions_sets.csv      # all 10,073 names

The folder gets the official csv, 1024x768/<digits>.jpg, and DEMO_DATASET.txt, which says that these are no photographs.
A scene is a function of (seed, name), and its faults of (seed, name, MOS): the lower the MOS, the stronger the fault.
"""

import argparse
import csv
import os
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from iqa.cli import Command, OneLineParser, report, say
from iqa.data.readers import OFFICIAL_CSV
from iqa.demo.folder import IMAGE_FOLDER, prepare_folder, remove_leftovers, write_images
from iqa.demo.rows import chosen_rows, sizes_line


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", required=True, help="folder to write; must be new, empty, or this demo begun before"
    )
    parser.add_argument(
        "--images", type=int, help="number of images, 6 or more; with --metadata the default is all rows"
    )
    parser.add_argument("--metadata", help=f"take names, MOS and sets from this official csv ({OFFICIAL_CSV})")
    parser.add_argument("--seed", type=int, default=42, help="another seed gives other scenes (default 42)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one per CPU core)")
    return parser.parse_args(argv)


def build(arguments: argparse.Namespace) -> None:
    """Write the folder, or what an earlier call with the same arguments left out of it."""
    if arguments.workers < 1:
        raise ValueError(f"--workers {arguments.workers}: give 1 or more")
    header, rows = chosen_rows(arguments.images, arguments.metadata, arguments.seed)
    output, folder = Path(arguments.output), Path(arguments.output, IMAGE_FOLDER)
    prepare_folder(output, arguments.seed, "\n".join([header, *(row.line for row in rows)]) + "\n")
    there = {entry.name for entry in os.scandir(folder) if entry.stat().st_size > 0}
    tasks = [(folder / row.name, arguments.seed, row.name, row.mos) for row in rows if row.name not in there]
    if len(tasks) < len(rows):
        say(f"{output}: {len(rows) - len(tasks)} of {len(rows)} images are there from an earlier call")
    write_images(tasks, arguments.workers)
    remove_leftovers(folder)
    say(f"{output}: {len(rows)} demo images, {sizes_line(rows)}")


def main(argv: list[str] | None = None) -> int:
    """Write the demo; returns the exit status."""
    with Command(argv, when_stopped="The same command completes the folder.") as command:
        arguments = parse_arguments(argv)
        command.status = 2
        try:
            build(arguments)
            command.status = 0
        except (ValueError, csv.Error) as error:
            report(str(error))
        except BrokenProcessPool:
            report(f"--workers {arguments.workers}: a worker was killed; the same command with fewer goes on from here")
        except OSError as error:
            report(f"--output {arguments.output}: {error}; an image takes about 0.2 MB")
    return command.status


if __name__ == "__main__":
    sys.exit(main())

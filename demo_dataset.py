#!/usr/bin/env python3
"""Write demo images in the layout of KonIQ-10k: procedural scenes with graded faults, such as blur and noise.

    python3 demo_dataset.py --output demo-data --images 300

The folder gets the csv of labels, 1024x768/<name>.jpg, and DEMO_DATASET.txt, which says that these are no photographs.
A scene depends on (seed, name), its faults on (seed, name, MOS): the lower the MOS, the stronger the faults.
"""

import argparse
import os
import sys
from pathlib import Path

from iqa.cli import Command, OneLineParser, number, report, say


def build_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, type=Path, help="a new or empty folder, or an incomplete demo")
    parser.add_argument("--images", required=True, type=number(int, 6, 1_000_000), help="number of images, 6 or more")
    parser.add_argument("--seed", type=int, default=42, help="seed of the scenes and faults; default: 42")
    parser.add_argument(
        "--workers", type=number(int, 1), default=os.cpu_count(), help="number of processes; default: one per core"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the demo, or what an earlier call with the same arguments left out of it; returns the exit status."""
    with Command(argv, when_stopped="The same command completes the folder.") as command:
        options = build_parser().parse_args(argv)
        from concurrent.futures.process import BrokenProcessPool

        from iqa.demo import folder  # it loads numpy and Pillow

        try:
            rows = folder.invent_rows(options.images, options.seed)
            with folder.locked_folder(options.output) as output:
                folder.write_folder(output, rows, options.seed, options.workers)
            say(f"{output}: {len(rows)} demo images, {folder.describe_sizes(rows)}")
        except ValueError as error:
            report(str(error))
            command.status = 2
        except BrokenProcessPool as error:
            raise RuntimeError(f"--workers {options.workers}: a worker was killed; repeat with fewer") from error
        except OSError as error:
            raise OSError(f"--output {options.output}: {error}; an image takes about 0.2 MB") from error
    return command.status


if __name__ == "__main__":
    sys.exit(main())

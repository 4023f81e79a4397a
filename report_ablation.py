#!/usr/bin/env python3
"""Write the report of an ablation from its finished runs: tables, figures and LaTeX.

    python3 report_ablation.py logs/resnet_ablation_20250101_120000
    python3 report_ablation.py logs/resnet_ablation_20250101_120000 logs/evaluation_*    # also on other data sets

The report is report.md, report.tex, report.json and figures/ in that folder; the table, the answer and its limits are
also printed. The command needs no GPU and may be run at any time. docs/report.md explains the numbers.
"""

import sys

from iqa.cli import Command, OneLineParser, number, say


def main(argv: list[str] | None = None) -> int:
    """Write the report; returns the exit status."""
    with Command(argv, when_stopped="The same command writes the report anew.") as command:
        from report_ablation import run  # its libraries take a second to load

        run(argv)
    return command.status


if __name__ == "__main__":
    sys.exit(main())

import argparse
import re
from pathlib import Path

from iqa.atomic_files import write_atomically
from iqa.metrics import DRAWS
from iqa.report import render
from iqa.report.analysis import analyse


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "log_folder", type=Path, metavar="LOGDIR", help="folder that contains the runs, such as exp1_baseline/"
    )
    parser.add_argument(
        "evaluations",
        type=Path,
        nargs="*",
        metavar="EVALUATION_DIR",
        help="folders that score_images.py wrote for these runs on other data sets; those named evaluation_* in LOGDIR "
        "are found without this",
    )
    parser.add_argument(
        "--groups",
        type=pattern,
        metavar="REGEX",
        help="add results for groups of test images: what the pattern, or its first bracket, matches in the name of an "
        "image; default: the pattern of the data set (biq2021, live, csiq), else no groups",
    )
    parser.add_argument(
        "--without",
        type=Path,
        metavar="FILE",
        help="add results without the test images that the file names, one a line, such as that of data_loader.py "
        "--near_copies",
    )
    parser.add_argument(
        "--allow_mismatch",
        action="store_true",
        help="compare runs whose split, flags, precision or code differ, and say so in the report",
    )
    parser.add_argument(
        "--draws",
        type=number(int, 1000, 1_000_000),
        default=DRAWS,
        help="number of bootstrap resamples; default: %(default)s",
    )
    parser.add_argument(
        "--seed", type=number(int, 0), default=0, help="seed of the bootstrap resamples; default: %(default)s"
    )
    return parser.parse_intermixed_args(argv)


def pattern(text: str) -> str:
    """An argparse type: a regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression ({error})") from None
    return text


def run(argv: list[str] | None) -> None:
    """Read the runs, and write the report beside them."""
    flags = vars(parse_arguments(argv))
    log_folder = flags["log_folder"]
    analysis, runs = analyse(**flags)
    render.add_words(analysis)
    from iqa.report.figures import write_figures  # matplotlib is slow to load: errors come first

    analysis.figures = write_figures(analysis, runs, log_folder / "figures")
    write_atomically(log_folder / "report.json", render.to_json(analysis))
    for name in ("report.tex", "report.md"):
        write_atomically(log_folder / name, render.page(name, analysis))
    say(f"Report: {log_folder / 'report.md'} (also report.tex, report.json, figures/)\n")
    say(render.summary(analysis))

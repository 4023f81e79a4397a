#!/usr/bin/env python3
"""Turn the finished runs of an ablation into a verdict, tables, figures and LaTeX.

    python3 report_ablation.py logs/resnet_ablation_20250101_120000
    python3 report_ablation.py logs/resnet_ablation_20250101_120000 logs/evaluation_*      # with these runs on other data sets

writes report.md, report.tex, report.json and figures/ into that folder, and prints the signs of runs that are not sound,
the verdict and a short table. It trains nothing, needs no GPU and may be run at any time; missing variants are named.
Runs on several backbones, and those of the published models, become one report on all of them.
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
import json
import re
from pathlib import Path

from iqa.atomic_files import write_atomically
from iqa.metrics import DRAWS
from iqa.report import grid_latex as grid_latex
from iqa.report import grid_markdown as grid_markdown
from iqa.report import latex as report_latex
from iqa.report import markdown as report_markdown
from iqa.report import words
from iqa.report.elsewhere import elsewhere_numbers
from iqa.report.evaluations import read_evaluations
from iqa.report.interpretation import interpret
from iqa.report.numbers import analyse
from iqa.report.parts import declared_groups, group_numbers, read_names, sick_folders, without_images
from iqa.report.rows import find_grid
from iqa.report.runs import Run, mismatches, on_common_images, read_runs


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("log_folder", type=Path, metavar="LOGDIR", help="folder that holds exp1_baseline/ and so on")
    parser.add_argument(
        "evaluations",
        type=Path,
        nargs="*",
        metavar="EVALUATION_DIR",
        help="folders that train_resnet_improved.py --evaluate left for these runs, such as "
        "logs/evaluation_resnet_improved_ss_noatt_best; those in LOGDIR are found",
    )
    parser.add_argument(
        "--groups",
        type=pattern,
        metavar="REGEX",
        help="add the figures of each group of test images: its first bracket, or else what it matches, in an image's "
        "name; default: as the data set declares it (biq2021, live, csiq), else none",
    )
    parser.add_argument(
        "--without",
        type=Path,
        metavar="FILE",
        help="add the figures without these test images, one name a line, such as data_loader.py --near_copies writes",
    )
    parser.add_argument(
        "--allow_mismatch",
        action="store_true",
        help="compare runs whose split, flags, code or seeds differ, and say so in the report",
    )
    parser.add_argument("--draws", type=number(int, 1000), default=DRAWS, help="of the bootstrap; default: %(default)s")
    parser.add_argument("--seed", type=number(int, 0), default=0, help="of the bootstrap; default: %(default)s")
    return parser.parse_intermixed_args(arguments)


def pattern(text: str) -> str:
    """An argparse type: a regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression ({error})") from None
    return text


def make_report(
    log_folder: Path,
    evaluation_folders: list[Path],
    *,
    allow_mismatch: bool,
    draws: int,
    seed: int,
    groups: str | None = None,
    without: Path | None = None,
) -> dict:
    """Read the runs, write the report beside them, and return its numbers.

    Args:
        evaluation_folders: of these runs on other data sets, besides those in the log folder.
        groups: a regular expression that tells the group of a test image; None where the data set declares it.
        without: a file of image names, without which the figures are given too.
    """
    left_out = read_names(without) if without else []
    grid = find_grid(log_folder)
    runs, unfinished = read_runs(log_folder, grid.variants)
    found = mismatches(runs)
    if found and not allow_mismatch:
        raise ValueError(
            f"{log_folder}: the runs differ in more than their variant, so they are not compared. "
            f"{'. '.join(found)}. Repeat the runs that stand out, or pass --allow_mismatch"
        )
    runs = on_common_images(runs)
    evaluations, not_of_these = read_evaluations(log_folder, evaluation_folders, runs)
    numbers = analyse(runs, grid, unfinished, found, draws, seed)
    sick, groups = sick_folders(numbers), groups or declared_groups(runs)
    numbers["elsewhere"] = elsewhere_numbers(
        evaluations, not_of_these, runs, grid, sick, allow_mismatch=allow_mismatch, draws=draws, seed=seed
    )
    numbers["groups"] = group_numbers(runs, grid, groups, sick, draws, seed) if groups else None
    numbers["without"] = without_images(runs, grid, left_out, without, sick, draws, seed) if without else None
    interpret(numbers)
    numbers["figures"] = write_figures(runs, numbers, log_folder / "figures")
    write_report(log_folder, numbers)
    return numbers


def write_figures(runs: list[Run], numbers: dict, folder: Path) -> dict[str, str]:
    """The figures of one backbone or of a grid: their names and captions."""
    from iqa.report import figures, grid_figures  # matplotlib is slow to load: errors come first

    return figures.write_figures(runs, numbers, folder, (grid_figures if "backbones" in numbers else figures).FIGURES)


def write_report(log_folder: Path, numbers: dict) -> None:
    markdown, latex = pages_of(numbers)
    write_atomically(log_folder / "report.json", json.dumps(numbers, indent=1, allow_nan=False) + "\n")
    write_atomically(log_folder / "report.tex", latex.page(numbers))
    write_atomically(log_folder / "report.md", markdown.page(numbers))


def pages_of(numbers: dict):
    """What writes Markdown and LaTeX of one backbone or of a grid."""
    return (grid_markdown, grid_latex) if "backbones" in numbers else (report_markdown, report_latex)


def run(argv: list[str] | None) -> None:
    flags = parse_arguments(argv)
    numbers = make_report(
        flags.log_folder,
        flags.evaluations,
        allow_mismatch=flags.allow_mismatch,
        draws=flags.draws,
        seed=flags.seed,
        groups=flags.groups,
        without=flags.without,
    )
    for warning in words.warnings(numbers):
        say(f"Note: {warning}")
    say(f"\nReport: {flags.log_folder / 'report.md'} (also report.tex, report.json, figures/)\n")
    for run, sentence in words.sick_runs(numbers):
        say(f"Not sound: {run['folder']}: {sentence}\n")
    say(" ".join(numbers["verdict"]) + "\n")
    for part in ("elsewhere", "groups", "without"):
        if numbers[part]:
            say(" ".join(numbers[part]["sentences"]) + "\n")
    say(pages_of(numbers)[0].short_table(numbers))

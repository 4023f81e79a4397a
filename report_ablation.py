#!/usr/bin/env python3
"""Turn the finished runs of an ablation into a verdict, tables, figures and LaTeX.

    python3 report_ablation.py logs/resnet_ablation_20250101_120000

writes report.md, report.tex, report.json and figures/ into that folder, and prints the signs of runs that are not sound,
the verdict and a short table. It trains nothing, needs no GPU and may be run at any time; missing variants are named.
Runs on several backbones, and those of the published models, become one report on all of them.
"""

from iqa.report.command import begin, end

if __name__ == "__main__":  # the libraries take a second to load, in which Ctrl-C ends the command in order too
    begin()

import argparse
import json
from pathlib import Path

from iqa.atomic_files import write_atomically
from iqa.command_line import OneLineParser, first_line, number, report
from iqa.console import say
from iqa.report import grid_latex as grid_latex
from iqa.report import grid_markdown as grid_markdown
from iqa.report import latex as report_latex
from iqa.report import markdown as report_markdown
from iqa.report import words
from iqa.report.interpretation import interpret
from iqa.report.metrics import DRAWS
from iqa.report.numbers import analyse
from iqa.report.rows import find_grid
from iqa.report.runs import Run, mismatches, on_common_images, read_runs


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("log_folder", type=Path, metavar="LOGDIR", help="folder that holds exp1_baseline/ and so on")
    parser.add_argument("--allow_mismatch", action="store_true",
                        help="compare runs whose split, flags, code or seeds differ, and say so in the report")
    parser.add_argument("--draws", type=number(int, 1000), default=DRAWS, help="of the bootstrap; default: %(default)s")
    parser.add_argument("--seed", type=number(int, 0), default=0, help="of the bootstrap; default: %(default)s")
    return parser.parse_args(arguments)


def make_report(log_folder: Path, allow_mismatch: bool, draws: int, seed: int) -> dict:
    """Read the runs, write the report beside them, and return its numbers."""
    grid = find_grid(log_folder)
    runs, unfinished = read_runs(log_folder, grid.variants)
    found = mismatches(runs)
    if found and not allow_mismatch:
        raise ValueError(f"{log_folder}: the runs differ in more than their variant, so they are not compared. "
                         f"{'. '.join(found)}. Repeat the runs that stand out, or pass --allow_mismatch")
    runs = on_common_images(runs)
    numbers = analyse(runs, grid, unfinished, found, draws, seed)
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


def main(arguments: list[str] | None = None) -> int:
    flags = parse_arguments(arguments)
    try:
        numbers = make_report(flags.log_folder, flags.allow_mismatch, flags.draws, flags.seed)
    except (OSError, ValueError) as error:
        report(first_line(error))
        return 1
    for warning in words.warnings(numbers):
        say(f"Note: {warning}")
    say(f"\nReport: {flags.log_folder / 'report.md'} (also report.tex, report.json, figures/)\n")
    for run, sentence in words.sick_runs(numbers):
        say(f"Not sound: {run['folder']}: {sentence}\n")
    say(" ".join(numbers["verdict"]) + "\n")
    say(pages_of(numbers)[0].short_table(numbers))
    return 0


if __name__ == "__main__":
    end(main)

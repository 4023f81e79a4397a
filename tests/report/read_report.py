"""The report of a log folder, or the refusal to write one, and what it says."""

import json
import re
from contextlib import nullcontext
from unittest import mock

import numpy as np
from scipy import stats

import report_ablation


def report(log_folder, *arguments, figures=False):
    """Run the report in this process, its figures only where they matter; its numbers, report.md and report.tex."""
    nothing = mock.patch("iqa.report.figures.write_figures", return_value={})
    with nullcontext() if figures else nothing:
        assert report_ablation.main([str(log_folder), "--draws", "1000", *arguments]) == 0
    return (
        json.loads((log_folder / "report.json").read_text()),
        (log_folder / "report.md").read_text(),
        (log_folder / "report.tex").read_text(),
    )


def refusal(log_folder, capsys, *arguments):
    """The one line that a report which cannot be made leaves on stderr."""
    capsys.readouterr()
    assert report_ablation.main([str(log_folder), "--draws", "1000", *arguments]) == 1
    output, error = capsys.readouterr()
    assert output == "" and re.fullmatch(r"error: [^\n]+\n", error)
    return error


def predictions(folder):
    table = np.genfromtxt(folder / "predictions_test.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    return table["mos"], table["score"]


def srcc_of(folder):
    return stats.spearmanr(*predictions(folder)).statistic


def level_of(numbers, log_name):
    """A row of report.json."""
    return next(level for level in numbers["levels"] if level["row"]["log_name"] == log_name)


def difference_of(numbers, key):
    """A difference of report.json or of one of its parts; None where it could not be made."""
    return next((d for d in numbers["differences"] if d["comparison"]["key"] == key), None)


def interval(estimate):
    return f"{estimate['value']:+.4f} [{estimate['low']:+.4f}, {estimate['high']:+.4f}]"


def section_of(page, title):
    return page[page.index(f"## {title}") :].split("\n## ")[0]

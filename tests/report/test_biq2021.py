"""docs/biq2021: what its page says is what the predictions beside it give, and no photograph lies there."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from scipy import stats

FOLDER = ROOT / "docs/biq2021"
RUNS = sorted(path.parent for path in FOLDER.glob("*/result.json"))
NEAR_COPIES = {line.split("\t")[0] for line in (FOLDER / "near_copies.txt").read_text().splitlines()}


def predictions(path: Path, chosen=lambda name: True) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, MOS and scores."""
    with open(path, newline="") as file:
        rows = [row for row in csv.DictReader(file) if chosen(row["image_name"])]
    return [row["image_name"] for row in rows], *(
        np.array([float(row[column]) for row in rows]) for column in ("mos", "score")
    )


def correlations(run: Path, chosen=lambda name: True) -> str:
    _, mos, scores = predictions(run / "predictions_test.csv", chosen)
    return f"{stats.spearmanr(scores, mos).statistic:.4f} / {stats.pearsonr(scores, mos).statistic:.4f}"


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_every_number_of_the_page_can_be_recomputed(run):
    """The row of a run: all test images, each of the three sources, and without the near copies."""
    result = json.loads((run / "result.json").read_text())
    whole = correlations(run)
    assert whole == f"{result['selected_test_srcc']:.4f} / {result['selected_test_plcc']:.4f}"
    parts = [
        correlations(run, lambda name, source=source: name.startswith(source)) for source in ("ss01", "ss02", "ss03")
    ]
    cells = [run.name, whole, *parts, correlations(run, lambda name: name not in NEAR_COPIES)]
    assert "| " + " | ".join(cells) + " |" in (FOLDER / "README.md").read_text()


def test_the_page_has_a_row_for_each_run_and_the_report_is_of_these():
    page = (FOLDER / "README.md").read_text()
    assert re.findall(r"^\| (lite\d\w+) \|", page, re.M) == [run.name for run in RUNS] and len(RUNS) >= 3
    numbers = json.loads((FOLDER / "report.json").read_text())
    for variant, found in numbers["variants"].items():
        scores = [
            json.loads((run / "result.json").read_text())["selected_test_srcc"]
            for run in RUNS
            if run.name.startswith(variant)
        ]
        assert found["srcc"]["estimate"] == pytest.approx(np.mean(scores))


def test_no_photograph_lies_there():
    images = [
        path for path in FOLDER.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp", ".npy", ".bin")
    ]
    assert {path.parent for path in images} <= {FOLDER / "figures"}

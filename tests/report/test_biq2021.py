"""docs/biq2021: what its page says is what the predictions beside it give, and no photograph lies there."""

import csv
import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from scipy import stats

from iqa.report import metrics

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


def compared(mos: np.ndarray, scores: dict[str, np.ndarray], bases: dict[str, str]) -> dict[str, list[str]]:
    """Two cells of docs/recipe.md for each run: its level, and its SRCC less that of its base with an interval over images."""
    draws, _ = metrics.bootstrap_correlations(list(scores.values()), mos)
    draws = dict(zip(scores, draws, strict=True))
    cells = {}
    for name, base in bases.items():
        level = f"{metrics.srcc(scores[name], mos):.4f} / {metrics.plcc(scores[name], mos):.4f}"
        difference = metrics.srcc(scores[name], mos) - metrics.srcc(scores[base], mos)
        found = metrics.image_interval(difference, draws[name] - draws[base])
        interval = f"{found.estimate:+.4f} [{found.low:+.4f}, {found.high:+.4f}]".replace("-", "−")
        cells[name] = [level, "–" if name == base else interval]
    return cells


@pytest.mark.parametrize(
    ("base", "chosen"),
    [
        *(
            ("recipe/under_test", lambda name, source=source: name.startswith(source))
            for source in ("ss01", "ss02", "ss03")
        ),
        ("recipe/under_test", lambda name: name not in NEAR_COPIES),
        ("lite2_multiscale_seed42", lambda name: True),
    ],
    ids=["ss01", "ss02", "ss03", "without near copies", "as much arithmetic"],
)
def test_what_the_page_says_beside_its_tables_is_what_the_predictions_give(base, chosen):
    of = {name: predictions(FOLDER / name / "predictions_test.csv", chosen) for name in (base, "recipe/best")}
    assert of[base][0] == of["recipe/best"][0]
    scores = {name: found for name, (_, _, found) in of.items()}
    _, difference = compared(of[base][1], scores, dict.fromkeys(scores, base))["recipe/best"]
    assert difference in " ".join((ROOT / "docs/recipe.md").read_text().split())


def under_test_of(names: Iterable[str]) -> dict[str, str]:
    """For each run the one by the recipe under test with the same seed and size, which is what stands after the comma."""
    return {name: "the recipe under test" + "".join(name.partition(",")[1:]) for name in names}


def rows_of(heading: str) -> dict[str, list[str]]:
    """The cells of the table of docs/recipe.md that begins with `heading`, by the first of their row without its backticks."""
    page = (ROOT / "docs/recipe.md").read_text()
    table = page[page.index(heading) :].split("\n\n", 1)[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {first.replace("`", ""): cells for first, *cells in rows}


def test_the_comparison_of_recipes_is_what_its_predictions_give():
    folders = {
        "the recipe under test": "recipe/under_test",
        "--recipe best": "recipe/best",
        "--recipe best --head_lr_ratio 10": "recipe/ratio_10",
        "--recipe best --head_lr_ratio 10 --loss l1": "recipe/ratio_10_l1",
        "the recipe under test, 36,000 patches": "lite2_multiscale_seed42",
        "--recipe best, 36,000 patches": "recipe/best_36000",
        "--recipe best --head_lr_ratio 10, 36,000 patches": "recipe/ratio_10_36000",
    }
    cells = {name: [] for name in folders}
    for part in ("val", "test"):
        read = [predictions(FOLDER / folder / f"predictions_{part}.csv") for folder in folders.values()]
        names, mos, _ = read[0]
        assert all(other == names for other, _, _ in read)
        scores = {name: found for name, (_, _, found) in zip(folders, read, strict=True)}
        for name, found in compared(mos, scores, under_test_of(folders)).items():
            cells[name] += found
    assert rows_of("| | SRCC / PLCC, validation") == cells


def test_the_table_of_trials_is_what_their_predictions_give():
    """All of pilots.csv, each trial against the recipe under test of its seed."""
    with open(FOLDER / "recipe/pilots.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [column for column in rows[0] if column not in ("part", "image_name", "mos")]
    cells = {name: [] for name in names}
    for part in ("val", "test"):
        of_part = [row for row in rows if row["part"] == part]
        scores = {name: np.array([float(row[name]) for row in of_part]) for name in names}
        for name, found in compared(
            np.array([float(row["mos"]) for row in of_part]), scores, under_test_of(names)
        ).items():
            cells[name] += found
    assert rows_of("| what differs from the recipe under test") == cells

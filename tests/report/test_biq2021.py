"""docs/biq2021: the report and the page are what the predictions beside them give, whatever runs there are."""

import json

import numpy as np
import pytest
from conftest import ROOT, read_epochs
from scipy import stats
from test_experiments import srcc_within_sources

from iqa.predictions import read_predictions

FOLDER = ROOT / "docs/biq2021"
NUMBERS = json.loads((FOLDER / "report.json").read_text())
RUNS = sorted(path.parent for path in FOLDER.glob("*/result.json"))
PREDICTIONS = {run.name: read_predictions(run / "predictions_test.csv") for run in RUNS}


def test_the_report_is_of_all_runs_and_of_their_results():
    reported = {run["folder"]: run for level in NUMBERS["levels"] for run in level["runs"]}
    assert list(PREDICTIONS) == sorted(reported) and RUNS
    for folder in RUNS:
        found, run = PREDICTIONS[folder.name], reported[folder.name]
        result = json.loads((folder / "result.json").read_text())
        for metric, function in (("srcc", stats.spearmanr), ("plcc", stats.pearsonr)):
            assert run[metric] == pytest.approx(function(found.scores, found.mos).statistic, abs=1e-9)
            assert result[f"selected_test_{metric}"] == pytest.approx(run[metric], abs=1e-5)


@pytest.mark.parametrize("level", NUMBERS["levels"], ids=lambda level: level["row"]["log_name"])
def test_the_correlation_within_sources_is_the_mean_weighted_by_images(level):
    values = []
    for run in level["runs"]:
        found = PREDICTIONS[run["folder"]]
        values.append(srcc_within_sources(found.names, found.scores, found.mos))
    within = NUMBERS["groups"]["within"]["levels"][level["row"]["log_name"]]["srcc"]
    assert within["value"] == pytest.approx(np.mean(values), abs=1e-9)
    assert within["low"] < within["value"] < within["high"]


def test_the_page_names_every_result():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [row for level in NUMBERS["levels"] if (row := f"{level['srcc']['value']:.4f}") not in page] == []
    assert "--groups" in page and "--without" in page  # the command that makes the report


def test_the_page_has_a_row_for_each_run_and_the_gain_of_the_last_epoch():
    page, gains = (FOLDER / "README.md").read_text(encoding="utf-8").replace("−", "-"), []
    for folder in RUNS:
        run = json.loads((folder / "result.json").read_text())
        rows = read_epochs(folder)
        gains.append(rows[-1]["val_srcc"] - rows[-2]["val_srcc"])
        test = f"{run['selected_test_srcc']:.4f} / {run['selected_test_plcc']:.4f}"
        cells = (folder.name, run["selected_epoch"], f"{run['selected_val_srcc']:.4f}", test, f"{gains[-1]:+.4f}")
        assert f"| {' | '.join(map(str, cells))} |" in page
    low, high = stats.t.interval(0.95, len(gains) - 1, np.mean(gains), stats.sem(gains))
    assert f"{np.mean(gains):+.4f} in validation SRCC, 95% interval [{low:+.4f}, {high:+.4f}]" in page


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_front_pages_show_the_report(name):
    page = (ROOT / name).read_text(encoding="utf-8").replace("−", "-")
    for level in NUMBERS["levels"]:
        within = NUMBERS["groups"]["within"]["levels"][level["row"]["log_name"]]["srcc"]["value"]
        found = [f"{x['value']:.4f} [{x['low']:.4f}, {x['high']:.4f}]" for x in (level["srcc"], level["plcc"])]
        assert f"| {found[0]} | {found[1]} | {within:.4f} |" in page and f"{level['srcc_deviation']:.4f}" in page
    for difference in NUMBERS["differences"]:
        x, against_baseline = difference["srcc"], difference["comparison"]["terms"][1][1].endswith("baseline")
        assert not against_baseline or f"| {x['value']:+.4f} [{x['low']:+.4f}, {x['high']:+.4f}] |" in page


def test_no_photograph_is_there():
    images = [path for path in FOLDER.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp", ".npy")]
    assert {path.parent for path in images} <= {FOLDER / "figures"}

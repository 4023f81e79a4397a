"""docs/biq2021 and docs/demo: reports and pages are what the predictions beside them give, whatever runs there are."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from conftest import ROOT, read_epochs, run_main
from scipy import stats
from test_experiments import srcc_within_sources

from iqa.predictions import read_predictions

FOLDER = ROOT / "docs/biq2021"
NUMBERS = json.loads((FOLDER / "report.json").read_text())
RUNS = sorted(path.parent for path in FOLDER.glob("*/result.json"))
RESULTS = {run.name: json.loads((run / "result.json").read_text()) for run in RUNS}
PREDICTIONS = {run.name: read_predictions(run / "predictions_test.csv") for run in RUNS}
PUBLISHED_GAIN = "+0.0040"  # of both ideas on Swin-B, by SMART-IQA's authors


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8").replace("−", "-")


def last_rises() -> dict[str, float]:
    """The rise of each run's validation SRCC in its last epoch."""
    curves = {run.name: [epoch["val_srcc"] for epoch in read_epochs(run)] for run in RUNS}
    return {name: curve[-1] - curve[-2] for name, curve in curves.items()}


def interval(values) -> tuple[float, float]:
    return stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))


def numbers_in(value) -> Iterator[float]:
    """All numbers in the content of a JSON file."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(item)
    elif isinstance(value, int | float):
        yield value


def test_the_report_is_of_all_runs_and_of_their_results():
    reported = {run["folder"]: run for level in NUMBERS["levels"] for run in level["runs"]}
    assert list(PREDICTIONS) == sorted(reported) and RUNS
    for name, result in RESULTS.items():
        found, run = PREDICTIONS[name], reported[name]
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


def test_the_report_is_what_the_command_of_the_page_writes(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "docs/biq2021")
    command = re.search(r"^python3 report_ablation.py (.*)$", read("docs/biq2021/README.md"), re.MULTILINE)
    assert run_main("report_ablation", *shlex.split(command[1]), cwd=tmp_path).returncode == 0
    for name in ("report.md", "report.tex"):
        assert (tmp_path / "docs/biq2021" / name).read_text() == (FOLDER / name).read_text()


def test_the_page_has_the_means_of_each_variant_on_every_set_of_images():
    groups, without = NUMBERS["groups"], NUMBERS["without"]["part"]
    for level in NUMBERS["levels"]:
        parts = [part["levels"][level["row"]["log_name"]] for part in (*groups["parts"], groups["within"], without)]
        cells = [f"{level['srcc']['value']:.4f} / {level['plcc']['value']:.4f}"]
        cells += [f"{part['srcc']['value']:.4f}" for part in parts]
        assert f" | {' | '.join(cells)} |" in read("docs/biq2021/README.md")


def test_the_page_has_a_row_for_each_run_and_the_gain_of_the_last_epoch():
    page, rises = read("docs/biq2021/README.md"), last_rises()
    for name, run in RESULTS.items():
        test = f"{run['selected_test_srcc']:.4f} / {run['selected_test_plcc']:.4f}"
        cells = (name, run["selected_epoch"], f"{run['selected_val_srcc']:.4f}", test, f"{rises[name]:+.4f}")
        assert f"| {' | '.join(map(str, cells))} |" in page
    low, high = interval([*rises.values()])
    mean = np.mean([*rises.values()])
    assert f"{mean:+.4f} in validation SRCC, 95% interval [{low:+.4f}, {high:+.4f}]" in page.replace("\n  ", " ")


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_front_pages_show_the_report(name):
    page, within = read(name), NUMBERS["groups"]["within"]
    for level in NUMBERS["levels"]:
        inside = within["levels"][level["row"]["log_name"]]["srcc"]["value"]
        found = [f"{x['value']:.4f} [{x['low']:.4f}, {x['high']:.4f}]" for x in (level["srcc"], level["plcc"])]
        assert f"| {found[0]} | {found[1]} | {inside:.4f} |" in page and f"{level['srcc_deviation']:.4f}" in page
    for difference in NUMBERS["differences"]:
        x, against_baseline = difference["srcc"], difference["comparison"]["terms"][1][1].endswith("baseline")
        assert not against_baseline or f"| {x['value']:+.4f} [{x['low']:+.4f}, {x['high']:+.4f}] |" in page
    answer = page.partition("](docs/biq2021/figures")[0]
    for differences in (NUMBERS["differences"], within["differences"]):
        x = next(d["srcc"] for d in differences if d["comparison"]["key"] == "both")
        shown = [re.escape(f"{x[key]:+.4f}") for key in ("value", "low", "high")]
        assert re.search(".{1,40}?".join(shown), answer, re.DOTALL)


@pytest.mark.parametrize("name", ["docs/biq2021/README.md", "README.md", "README.zh-CN.md"])
def test_every_number_with_four_decimals_is_measured(name):
    """In the front pages those before the rows on KonIQ-10k, except for the published gain."""
    rises = last_rises()
    measured = [*numbers_in(NUMBERS), *numbers_in(RESULTS), *rises.values()]
    measured += [np.mean([*rises.values()]), *interval([*rises.values()])]
    for level in NUMBERS["levels"]:
        runs = [run for run, result in RESULTS.items() if result["variant"] == level["row"]["log_name"]]
        measured += [
            np.mean([rises[run] for run in runs]),
            np.mean([RESULTS[run]["selected_val_srcc"] for run in runs]),
        ]
        measured += [np.ptp([RESULTS[run]["selected_test_srcc"] for run in runs])]
    texts = {f"{value:+.4f}" for value in measured} | {f"{abs(value):.4f}" for value in measured} | {PUBLISHED_GAIN}
    numbers = re.findall(r"[-+]?(?<![\d.])\d\.\d{4}\b", read(name).partition("| KonIQ-10k")[0])
    assert numbers and [number for number in numbers if number not in texts] == []


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_rows_of_the_demo_are_those_of_its_predictions(name):
    folder = ROOT / "docs/demo"
    numbers = json.loads((folder / "report.json").read_text())
    differences = {d["comparison"]["key"]: d["srcc"] for d in numbers["differences"]}
    for level, key in zip(numbers["levels"], (None, "multiscale", "both"), strict=True):
        log_name = level["row"]["log_name"]
        runs = [read_predictions(path) for path in sorted(folder.glob(f"{log_name}_seed*/predictions_test.csv"))]
        srcc = [stats.spearmanr(run.scores, run.mos).statistic for run in runs]
        assert [run["srcc"] for run in level["runs"]] == pytest.approx(srcc, abs=1e-9) and len(srcc) == 3
        assert level["srcc"]["value"] == pytest.approx(np.mean(srcc), abs=1e-9)
        cells = [f"{x['value']:.4f} [{x['low']:.4f}, {x['high']:.4f}]" for x in (level["srcc"], level["plcc"])]
        d = differences.get(key)
        cells += [
            f"{d['value']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}]" if d else "–",
            ", ".join(f"{x:.4f}" for x in srcc),
        ]
        assert f"| {' | '.join(cells)} |" in read(name)


def test_no_photograph_is_there():
    images = [path for path in FOLDER.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp", ".npy")]
    assert {path.parent for path in images} <= {FOLDER / "figures"}

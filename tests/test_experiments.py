"""The tables of docs/experiments follow from the committed predictions."""

import json
import re

import numpy as np
import pytest
from conftest import ROOT, read_rows, read_scores
from scipy import stats

from iqa import metrics
from iqa.predictions import read_predictions

FOLDER = ROOT / "docs/experiments"
LITE = FOLDER / "efficientnet_lite0"
PAGE = (FOLDER / "recipe_trials.md").read_text(encoding="utf-8")
RUNS = {
    "the recipe under test": FOLDER / "recipe_trials/under_test",
    "--recipe best": FOLDER / "recipe_trials/best",
    "--recipe best --head_lr_ratio 10": FOLDER / "recipe_trials/ratio_10",
    "--recipe best --head_lr_ratio 10 --loss l1": FOLDER / "recipe_trials/ratio_10_l1",
    "the recipe under test, 36,000 patches": LITE / "lite2_multiscale_seed42",
    "--recipe best, 36,000 patches": FOLDER / "recipe_trials/best_36000",
    "--recipe best --head_lr_ratio 10, 36,000 patches": FOLDER / "recipe_trials/ratio_10_36000",
}


def table(heading: str) -> dict[str, list[str]]:
    """The cells of a table of the page by the text of their first column."""
    lines = PAGE[PAGE.index(heading) :].split("\n\n", 1)[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first.replace("`", ""): cells for first, *cells in rows}


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"[-+]?\d\.\d+", text.replace("−", "-"))]


def of_runs(part: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The MOS and the scores of each run."""
    scores, mos = {}, {}
    for name, folder in RUNS.items():
        rows = read_rows(folder / f"predictions_{part}.csv")
        mos[name] = {row["image_name"]: float(row["mos"]) for row in rows}
        scores[name] = np.array([float(row["score"]) for row in rows])
    first, *others = mos.values()
    assert all(list(other.items()) == list(first.items()) for other in others)
    return np.array(list(first.values())), scores


def of_trials(part: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rows = [row for row in read_rows(FOLDER / "recipe_trials/pilots.csv") if row["part"] == part]
    names = [column for column in rows[0] if column not in ("part", "image_name", "mos")]
    columns = {name: np.array([float(row[name]) for row in rows]) for name in ["mos", *names]}
    return columns.pop("mos"), columns


@pytest.mark.parametrize(
    ("heading", "read"), [("| | SRCC / PLCC, validation", of_runs), ("| what differs from the recipe", of_trials)]
)
def test_trials(heading, read):
    """Levels to the last digit; differences from the run of the same seed and size with their intervals."""
    cells = table(heading)
    for part, column in (("val", 0), ("test", 2)):
        mos, scores = read(part)
        assert set(cells) == set(scores)
        draws = dict(zip(scores, metrics.bootstrap_correlations(list(scores.values()), mos)[0], strict=True))
        for name, values in scores.items():
            srcc, plcc = stats.spearmanr(values, mos).statistic, stats.pearsonr(values, mos).statistic
            assert cells[name][column] == f"{srcc:.4f} / {plcc:.4f}"
            base = "the recipe under test" + "".join(name.partition(",")[1:])
            if name != base:
                found = [srcc - stats.spearmanr(scores[base], mos).statistic]
                found += list(np.quantile(draws[name] - draws[base], (0.025, 0.975)))
                assert numbers(cells[name][column + 1]) == pytest.approx(found, abs=0.001)


def srcc_within_sources(names: list[str], scores: np.ndarray, mos: np.ndarray) -> float:
    """The mean over the sources of BIQ2021, which begin the names, weighted by their images."""
    sources = np.array([name[:4] for name in names])
    members = [sources == source for source in np.unique(sources)]
    return sum(k.mean() * stats.spearmanr(scores[k], mos[k]).statistic for k in members)


def test_within_sources():
    """Levels to the last digit, differences with their intervals, here and in docs/recipe.md."""
    rows, recipe = table("| `--recipe best` against"), (ROOT / "docs/recipe.md").read_text(encoding="utf-8")
    names = list(read_scores(RUNS["--recipe best"] / "predictions_test.csv"))
    mos, scores = of_runs("test")
    sources = np.array([name[:4] for name in names])
    for size, end in (("18,000 patches", ""), ("36,000 patches", ", 36,000 patches")):
        pair = [scores[f"--recipe best{end}"], scores[f"the recipe under test{end}"]]
        best, base = (srcc_within_sources(names, of_run, mos) for of_run in pair)
        assert numbers(rows[size][0]) == pytest.approx([best, base], abs=6e-5)
        draws = 0
        for seed, source in enumerate(np.unique(sources)):  # resampled independently of each other
            members = sources == source
            of_source = [of_run[members] for of_run in pair]
            resampled, _ = metrics.bootstrap_correlations(of_source, mos[members], seed=seed)
            draws += members.mean() * (resampled[0] - resampled[1])
        found = [best - base, *np.quantile(draws, (0.025, 0.975))]
        assert numbers(rows[size][1]) == pytest.approx(found, abs=0.001)
        pooled = table("| | SRCC / PLCC, validation")[f"--recipe best{end}"][3]
        assert f"| {size.partition(' ')[0]} | {pooled} | {rows[size][1]} |" in recipe


def test_the_recipes_at_about_equal_arithmetic():
    mos, scores = of_runs("test")
    pair = [scores["--recipe best"], scores["the recipe under test, 36,000 patches"]]
    best, base = (stats.spearmanr(of_run, mos).statistic for of_run in pair)
    draws = metrics.bootstrap_correlations(pair, mos)[0]
    found = [best - base, *np.quantile(draws[0] - draws[1], (0.025, 0.975))]
    stated = re.search(r"ahead of these by ([^\]]*\])", PAGE)[1]
    assert numbers(stated) == pytest.approx(found, abs=0.001)


@pytest.mark.parametrize("run", sorted(path.parent for path in LITE.glob("*/result.json")), ids=lambda run: run.name)
def test_the_runs_with_an_efficientnet(run):
    found = read_predictions(run / "predictions_test.csv")
    srcc, plcc = (f(found.scores, found.mos).statistic for f in (stats.spearmanr, stats.pearsonr))
    within = srcc_within_sources(found.names, found.scores, found.mos)
    row = f"| {run.name} | {srcc:.4f} / {plcc:.4f} | {within:.4f} |"
    assert row in (LITE / "README.md").read_text(encoding="utf-8")


def test_the_speed_on_a_gpu():
    """The tables of docs/speed.md and the line of README.md, from the trials of the benchmark."""
    measured = json.loads((FOLDER / "benchmark_h200.json").read_text())
    speed, front = ((ROOT / name).read_text(encoding="utf-8") for name in ("docs/speed.md", "README.md"))
    ways = [way for way in measured["ways"] if way["kind"] == "training"]
    eager = ways[0]
    rows = {line.split(" | ")[0]: line for line in speed[speed.index("| training | eager") :].splitlines()[2:9]}

    def row(name: str, cells) -> None:
        assert rows[f"| {name}"] == f"| {name} | {' | '.join(cells)} |"

    for name in ("full", "compute"):
        row(name.upper(), [f"{np.mean(way[name]):,.1f} ± {np.std(way[name], ddof=1):.1f}" for way in ways])
        row(f"{name.upper()} / eager", [f"{np.mean(way[name]) / np.mean(eager[name]):.2f}" for way in ways])
    row("FULL / COMPUTE", [f"{np.mean(np.divide(way['full'], way['compute'])):.3f}" for way in ways])
    minutes = measured["ablation_minutes"]
    row("ablation on KonIQ-10k, projected", [f"{minutes[way['name']]:.0f} min" for way in ways])
    rates = {way["name"]: f"{np.mean(way['full']):,.0f}" for way in ways}
    figures = f"{rates['graph']} patches/s in training, {rates['compiled graph']} with `--compile`, {rates['eager']}"
    assert figures in front
    assert f"would take {minutes['graph']:.0f} minutes" in front


def test_the_speed_on_a_cpu():
    measured = json.loads((FOLDER / "benchmark_avx2.json").read_text())
    speed, front = ((ROOT / name).read_text(encoding="utf-8") for name in ("docs/speed.md", "README.md"))
    training, evaluation = measured["ways"]
    for name in ("full", "compute", "input"):
        cells = [f"{np.mean(way[name]):,.1f} ± {np.std(way[name], ddof=1):.1f}" for way in (training, evaluation)]
        assert f"| {name.upper()} | {' | '.join(cells)} |" in speed
    assert f" TFLOP/s | {training['limit']:.1f} | {evaluation['limit']:.1f} |" in speed
    assert f"built at {measured['cache_images_per_second']:.0f} and" in speed
    assert f"would take {measured['ablation_minutes']['eager'] / 60:.0f} and" in speed
    rates = [np.mean(way["full"]) for way in (training, evaluation)]
    assert f"fp32: {rates[0]:.1f} patches/s in training, {rates[1]:.1f} in evaluation" in front

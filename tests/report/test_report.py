"""The report: finished runs in a folder -> report.md, report.tex, report.json, figures, or an error of one line."""

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from scipy import stats

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import report_ablation  # noqa: E402
from iqa.report import figures as report_figures  # noqa: E402
from iqa.report import words as words  # noqa: E402

VARIANTS = {
    "exp1_baseline": ("ss_noatt", 25_624_337, False, False),
    "exp2_multiscale": ("ms_noatt", 28_124_177, True, False),
    "exp3_multiscale_attention": ("ms_att", 28_649_749, True, True),
}
DEMO = "demo images made by demo_dataset.py: not KonIQ-10k's photographs"
FIGURES = ["training_curves", "predicted_against_true", "delta_srcc", "attention_by_mos"]


# ---- made-up runs --------------------------------------------------------------------------------------------


def make_scores(images, errors, seed=1, shared=0.7):
    """MOS, and for every standard deviation in `errors` a set of scores whose errors correlate at `shared`."""
    generator = np.random.default_rng(seed)
    mos = np.clip(generator.normal(58, 15, images), 2, 98).round(3)
    common = math.sqrt(shared) * generator.normal(size=images)
    own = math.sqrt(1 - shared) * generator.normal(size=(len(errors), images))
    return mos, [mos + error * (common + o) for error, o in zip(errors, own, strict=True)]


def write_run(log_folder, variant, mos, scores, *, seed=42, suffix="", flags=None, config=None, result=None):
    """One run's folder as train_resnet_improved.py leaves it."""
    tag, parameters, multiscale, attention = VARIANTS[variant]
    folder = log_folder / (variant + suffix)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({
        "run_id": f"{variant}-{seed}", "variant": variant, "tag": tag, "parameters": parameters,
        "flags": {"epochs": 3, "lr": 1e-4, "use_multiscale": multiscale, "use_attention": attention, "seed": seed,
                  "data_path": "./koniq-10k", "output_dir": str(folder), **(flags or {})},
        "commit": "0123abc", "versions": {"python": "3.11.7", "torch": "2.9.0"}, "device": "cpu", "precision": "fp32",
        "split": {"training": 7058, "validation": 1000, "test": len(mos), "sha256": "ab" * 32}, **(config or {}),
    }))
    lines = [{"epoch": e, "train_loss": 9.0 / e, "val_srcc": 0.8 + 0.02 * e, "val_plcc": 0.8, "test_srcc": 0.8,
              "test_plcc": None, "seconds": 9.5} for e in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"epoch": 4, "tra')
    write_predictions(folder / "predictions_test.csv", mos, scores, attention)
    rho, r = stats.spearmanr(scores, mos).statistic, stats.pearsonr(scores, mos).statistic
    (folder / "result.json").write_text(json.dumps({
        "variant": variant, "tag": tag, "seed": seed, "parameters": parameters, "epochs": 3, "select_on": "val",
        "selected_epoch": 3, "selected_val_srcc": 0.86, "selected_val_plcc": 0.8, "selected_test_srcc": rho,
        "selected_test_plcc": r, "best_test_srcc": rho + 0.001, "best_test_plcc": r + 0.001, "seconds": 28.5,
        **(result or {}),
    }))


def write_predictions(path, mos, scores, attention):
    stages = [f"attention_stage{s}" for s in (1, 2, 3, 4)] if attention else []
    lines = [",".join(["image_name", "mos", "score", *stages])]
    for number, (m, s) in enumerate(zip(mos, scores, strict=True)):
        deep = 0.25 + 0.5 * m / 100
        weights = [(1 - deep) * share for share in (0.3, 0.3, 0.4)] + [deep] if attention else []
        lines.append(",".join([f"{number:05d}_photo.jpg", *(f"{float(v)!r}" for v in (m, s, *weights))]))
    path.write_text("\n".join(lines) + "\n")


def write_ablation(log_folder, images=300, errors=(8.0, 7.0, 6.9), seeds=(42,), **more):
    """All variants with all seeds."""
    mos, scores = make_scores(images, [e for e in errors for _ in seeds])
    for number, variant in enumerate(VARIANTS):
        for position, seed in enumerate(seeds):
            suffix = f"_seed{seed}" if len(seeds) > 1 else ""
            predicted = scores[number * len(seeds) + position]
            write_run(log_folder, variant, mos, predicted, seed=seed, suffix=suffix, **more)
    return log_folder


def report(log_folder, *arguments, figures=False):
    """Run the report in this process, its figures only where they matter; its numbers, report.md and report.tex."""
    with mock.patch.object(report_figures, "FIGURES", report_figures.FIGURES if figures else {}):
        assert report_ablation.main([str(log_folder), "--draws", "1000", *arguments]) == 0
    return (json.loads((log_folder / "report.json").read_text()), (log_folder / "report.md").read_text(),
            (log_folder / "report.tex").read_text())


def refusal(log_folder, capsys, *arguments):
    """The one line that a report which cannot be made leaves on stderr."""
    assert report_ablation.main([str(log_folder), "--draws", "1000", *arguments]) == 1
    output, error = capsys.readouterr()
    assert output == "" and re.fullmatch(r"error: [^\n]+\n", error)
    return error


@pytest.fixture(scope="module")
def ablation(tmp_path_factory):
    """A finished ablation whose full variant is clearly better, and its report."""
    folder = write_ablation(tmp_path_factory.mktemp("ablation") / "logs", images=500, errors=(9.0, 8.9, 6.0))
    return folder, *report(folder, figures=True)


@pytest.fixture(scope="module")
def three_seeds(tmp_path_factory):
    folder = write_ablation(tmp_path_factory.mktemp("seeds") / "logs", errors=(9.0, 8.0, 6.0), seeds=(42, 43, 44))
    return folder, *report(folder, figures=True)


def predictions(folder):
    table = np.genfromtxt(folder / "predictions_test.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    return table["mos"], table["score"]


# ---- numbers -------------------------------------------------------------------------------------------------


def test_every_metric_can_be_recomputed_from_the_predictions(ablation):
    folder, numbers, page, tex = ablation
    for variant, found in numbers["variants"].items():
        mos, scores = predictions(folder / variant)
        for name, value in (
            ("srcc", stats.spearmanr(scores, mos).statistic), ("plcc", stats.pearsonr(scores, mos).statistic),
            ("krcc", stats.kendalltau(scores, mos).statistic), ("rmse", np.sqrt(np.mean((scores - mos) ** 2))),
        ):
            assert found["runs"][0][name] == pytest.approx(value, abs=1e-9)
            assert (f"{value:.3f} |" if name == "rmse" else f"{value:.4f}") in page
        assert f"{found['srcc']['estimate']:.4f} & {found['plcc']['estimate']:.4f}" in tex
        assert f"{found['parameters']:,}" in page


def test_every_difference_is_that_of_the_metrics_and_has_its_interval_in_both_pages(ablation):
    folder, numbers, page, tex = ablation
    found = numbers["comparisons"]["both"]["srcc"]
    levels = [stats.spearmanr(*predictions(folder / variant)).statistic for variant in VARIANTS]
    assert found["estimate"] == pytest.approx(levels[2] - levels[0], abs=1e-9)
    assert found["low"] < found["estimate"] < found["high"]
    assert words.with_interval(found) in page
    assert words.with_interval(found) in tex.replace("\\ ", " ")


def test_steigers_test_and_holms_correction_are_reported(ablation):
    _, numbers, page, _ = ablation
    for found in numbers["comparisons"].values():
        assert found["srcc"]["p_value"] <= found["srcc"]["p_holm"] <= 1
        assert f"{found['per_seed'][0]['steiger_z']:+.3f}" in page


def test_the_power_of_the_test_set_is_reported(ablation):
    folder, numbers, page, _ = ablation
    power = numbers["comparisons"]["both"]["power"]
    (_, first), (_, second) = predictions(folder / "exp1_baseline"), predictions(folder / "exp3_multiscale_attention")
    assert power["prediction_srcc"] == pytest.approx(stats.spearmanr(first, second).statistic)
    assert power["images_needed"] == pytest.approx(500 * (power["resolvable"] / 0.003) ** 2, abs=1)
    assert f"{power['images_needed']:,}" in page and "unknown from one seed" in page


def test_images_whose_error_changed_most_are_named(ablation):
    folder, numbers, page, _ = ablation
    mos, first = predictions(folder / "exp1_baseline")
    _, second = predictions(folder / "exp3_multiscale_attention")
    change = np.abs(second - mos) - np.abs(first - mos)
    named = [image["image_name"] for image in numbers["comparisons"]["both"]["disagreements"]]
    assert named == [f"{i:05d}_photo.jpg" for i in np.argsort(-np.abs(change))[:10]]
    assert all(name in page for name in named)


def test_attention_is_averaged_by_decile_of_mos(ablation):
    _, numbers, page, _ = ablation
    groups = numbers["attention_by_mos"]
    assert len(groups["mos"]) == 10 and groups["mos"] == sorted(groups["mos"])
    assert groups["attention_stage4"] == pytest.approx([0.25 + 0.005 * mos for mos in groups["mos"]])
    assert f"{groups['attention_stage4'][0]:.3f}" in page


def test_the_set_up_is_told(ablation):
    page = ablation[2]
    for item in ("0123abc", "torch 2.9.0", "fp32", "training 7058", "ab" * 32, "lr 0.0001", "42"):
        assert item in page


def test_published_rows_are_marked_and_the_peak_is_called_optimistic(ablation):
    _, numbers, page, _ = ablation
    assert "| ResNet50 (HyperIQA, published) | 0.8998 | 0.9098 |" in page
    assert "| SMART-IQA (Swin-Base, published) | 0.9378 | 0.9485 |" in page and "+0.0380" in page
    assert "optimistic" in page and f"{numbers['variants']['exp1_baseline']['best_test_srcc']:.4f}" in page
    assert "across protocols" in page


# ---- verdicts ------------------------------------------------------------------------------------------------


def verdict_of(page):
    """The bold paragraph, which is the first of the page but for its title and a warning."""
    return next(line for line in page.split("\n\n") if line.startswith("**"))


def test_a_clearly_better_variant_is_called_better(ablation):
    _, numbers, page, tex = ablation
    sentence = f"improves SRCC by {words.unsigned_interval(numbers['comparisons']['both']['srcc'])}"
    assert sentence in verdict_of(page) and sentence in tex
    assert verdict_of(page).count(". ") == 1   # two sentences


def test_a_clearly_worse_variant_is_called_worse(tmp_path):
    _, page, tex = report(write_ablation(tmp_path / "logs", errors=(6.0, 6.0, 9.0)))
    assert "lowers SRCC by" in verdict_of(page) and "There is a loss where the published" in tex


def test_two_copies_of_one_run_differ_by_nothing(tmp_path):
    mos, (scores,) = make_scores(300, [8.0])
    for variant in VARIANTS:
        write_run(tmp_path, variant, mos, scores)
    numbers, page, tex = report(tmp_path)
    for found in numbers["comparisons"].values():
        assert (found["srcc"]["estimate"], found["srcc"]["low"], found["srcc"]["high"]) == (0, 0, 0)
    assert "No difference" in verdict_of(page) and "improves" not in page + tex


def with_correlations(target, seed, images=2015):
    """Normal variables whose sample correlation matrix is `target`, exactly."""
    sample = np.random.default_rng(seed).standard_normal((images, len(target)))
    sample -= sample.mean(axis=0)
    white = sample @ np.linalg.inv(np.linalg.cholesky(sample.T @ sample)).T
    return (white @ np.linalg.cholesky(np.array(target)).T).T * math.sqrt(images)


def test_a_difference_of_0003_at_the_real_size_is_undecided(tmp_path):
    mos, first, second = with_correlations([[1, 0.908, 0.911], [0.908, 1, 0.9537], [0.911, 0.9537, 1]], seed=39)
    for variant, scores in zip(VARIANTS, (first, first, second), strict=True):
        write_run(tmp_path, variant, 58 + 12 * mos, 58 + 12 * scores)
    numbers, page, tex = report(tmp_path)
    found = numbers["comparisons"]["both"]
    assert numbers["variants"]["exp1_baseline"]["srcc"]["estimate"] == pytest.approx(0.90, abs=0.002)
    assert found["power"]["prediction_srcc"] == pytest.approx(0.950, abs=0.002)
    assert found["srcc"]["estimate"] == pytest.approx(0.003, abs=1e-4)
    assert found["srcc"]["estimate"] < found["srcc"]["standard_error"]
    assert words.decision(found) == "undecided"
    sentence = r"No difference in SRCC can be shown .* with 2,015 images and one seed .* one larger than 0\.\d{4} is"
    assert re.search(sentence, verdict_of(page)) and "improves" not in verdict_of(page) + tex


@pytest.mark.parametrize(("low", "high", "expected"), [
    (0.1, 0.4, "much smaller than"), (0.1, 0.9, "smaller than"), (0.85, 1.2, "similar to"),
    (0.6, 1.5, "comparable to"), (1.5, 3.0, "larger than"), (2.5, 3.0, "much larger than"),
    (0.2, 1.4, "not distinguishable in size from"),
])
def test_the_rule_for_the_size_of_a_gain(low, high, expected):
    assert words.size_words(low * 0.038, high * 0.038, 0.038) == expected


@pytest.mark.parametrize(("estimate", "low", "high", "p_holm", "expected"), [
    (0.004, 0.002, 0.006, 0.001, "The gain is much smaller than it (+0.0380)"),
    (0.001, -0.003, 0.005, 0.6, "No gain is shown, and any gain is much smaller than it (+0.0380)"),
    (0.01, -0.03, 0.05, 0.6, "It is undecided: the interval holds no gain at all and one as large as it (+0.0380)"),
    (0.010, 0.001, 0.019, 0.06, "No gain is shown, and any gain is smaller than it (+0.0380)"),
    (0.025, 0.001, 0.050, 0.06, "It is undecided how any gain compares with it (+0.0380)"),
    (-0.010, -0.015, -0.005, 0.001, "There is a loss where it (+0.0380) is a gain"),
])
def test_an_undecided_result_gets_undecided_wording(estimate, low, high, p_holm, expected):
    interval = {"estimate": estimate, "low": low, "high": high, "p_holm": p_holm}
    assert words.against_published({"identical": False, "srcc": interval}, 0.038, "it") == expected


def test_another_scale_of_mos_has_its_own_range_and_decimals(tmp_path):
    mos, scores = make_scores(300, (8.0, 7.0, 6.9))
    for variant, predicted in zip(VARIANTS, scores, strict=True):
        write_run(tmp_path, variant, 1 + mos / 25, 1 + predicted / 25, config={"mos_range": [1, 5]})
    _, page, _ = report(tmp_path)
    assert "RMSE in points of MOS (1–5)" in page and "0–100" not in page
    assert re.search(r"\| \d{5}_photo\.jpg \| \d\.\d{3} \| \d\.\d{3} \| \d\.\d{3} \| [+-]\d\.\d{3} \|", page)


# ---- seeds ---------------------------------------------------------------------------------------------------


def test_several_seeds_give_a_mean_its_deviation_and_n(three_seeds):
    folder, numbers, page, tex = three_seeds
    levels = [stats.spearmanr(*predictions(folder / f"exp1_baseline_seed{seed}")).statistic for seed in (42, 43, 44)]
    assert f"{np.mean(levels):.4f} ± {np.std(levels, ddof=1):.4f} (n = 3)" in page
    assert rf"{np.mean(levels):.4f} $\pm$ {np.std(levels, ddof=1):.4f}" in tex
    assert "3 seeds: 42, 43, 44" in page and "3 seeds" in verdict_of(page) and "One seed" not in page


def test_differences_are_paired_by_seed(three_seeds):
    folder, numbers, page, _ = three_seeds
    for found in numbers["comparisons"]["both"]["per_seed"]:
        first, second = (predictions(folder / f"{variant}_seed{found['seeds'][0]}")
                         for variant in ("exp1_baseline", "exp3_multiscale_attention"))
        difference = stats.spearmanr(*second).statistic - stats.spearmanr(*first).statistic
        assert found["srcc"] == pytest.approx(difference, abs=1e-9)
        assert f"{difference:+.4f} ({found['seeds'][0]})" in page


def test_one_seed_is_said_to_be_one(ablation):
    _, _, page, tex = ablation
    assert "One seed (42)" in page and "One seed was trained" in tex


# ---- warnings ------------------------------------------------------------------------------------------------


def test_the_demo_is_never_taken_for_koniq(tmp_path, capsys):
    _, page, tex = report(write_ablation(tmp_path / "logs", config={"dataset_note": DEMO}))
    assert DEMO in page.split("\n\n")[1] and page.index(DEMO) < page.index("SRCC")
    assert "demo images" in re.search(r"\\caption\{(.*)\}", tex)[1] and "demo images" in capsys.readouterr().out
    assert "The gain is" not in page + tex and "any gain is" not in page + tex


def test_a_choice_on_the_test_set_is_called_optimistic(tmp_path):
    _, page, tex = report(write_ablation(tmp_path / "logs", result={"select_on": "test"}))
    assert "chosen on the test images themselves" in page and "the test images, which is optimistic" in tex


def test_a_missing_and_an_unfinished_variant_are_named(tmp_path, capsys):
    folder = write_ablation(tmp_path / "logs")
    shutil.rmtree(folder / "exp2_multiscale")
    (folder / "exp3_multiscale_attention" / "result.json").unlink()
    numbers, page, tex = report(folder)
    output = capsys.readouterr().out
    for text in (page, output):
        assert "exp2_multiscale is missing." in text
        assert "exp3_multiscale_attention is unfinished" in text
    assert "| + Multi-scale | missing | missing | missing | missing |" in output
    assert "+ Multi-scale & missing & missing" in tex and "is missing" in verdict_of(page)


def test_places_and_speed_are_no_mismatch(tmp_path):
    folder = write_ablation(tmp_path / "logs")
    config = json.loads((folder / "exp2_multiscale/config.json").read_text())
    config["flags"] |= {"data_path": "/elsewhere", "num_workers": 7, "device": "cuda:1"}
    config["device"] = "NVIDIA H100"
    (folder / "exp2_multiscale/config.json").write_text(json.dumps(config))
    _, page, _ = report(folder)
    assert "should hardly matter: device: cpu in exp1_baseline, exp3_multiscale_attention; NVIDIA H100 in exp2" in page


@pytest.mark.parametrize(("change", "named"), [
    ({"flags": {"epochs": 5}}, "--epochs: 3 in exp1_baseline, exp3_multiscale_attention; 5 in exp2_multiscale"),
    ({"flags": {"new_flag": True}}, "--new_flag: None in exp1_baseline"),
    ({"config": {"commit": "fedcba9"}}, "code (commit): 0123abc in exp1"),
    ({"config": {"precision": "bf16"}}, "precision: fp32 in exp1"),
    ({"config": {"split": {"training": 9, "validation": 1, "test": 300, "sha256": "cd" * 32}}}, "split: 7058 / 1000"),
    ({"config": {"dataset_note": DEMO}}, "data set: as given by --dataset in exp1"),
    ({"seed": 43}, "seeds: 42 for exp1_baseline; 43 for exp2_multiscale"),
    ({"result": {"select_on": "test"}}, "epoch chosen on: val in exp1"),
    ({"result": {"selected_test_srcc": 0.5}}, "result.json says selected_test_srcc 0.500000"),
])
def test_runs_that_differ_are_not_compared_unless_it_is_allowed(tmp_path, capsys, change, named):
    mos, scores = make_scores(300, (8, 7, 6))
    for variant, predicted in zip(VARIANTS, scores, strict=True):
        write_run(tmp_path, variant, mos, predicted, **(change if variant == "exp2_multiscale" else {}))
    error = refusal(tmp_path, capsys)
    assert named in error and "--allow_mismatch" in error
    assert not (tmp_path / "report.md").exists()
    if "seed" in change or "config" in change and "split" in change["config"]:
        _, page, tex = report(tmp_path, "--allow_mismatch")
        assert f"in spite of a mismatch (--allow_mismatch): {named}" in page and "in spite of a mismatch" in tex


def test_allowed_runs_with_other_test_images_are_compared_on_the_common_ones(tmp_path, capsys):
    mos, scores = make_scores(300, (8, 7, 6))
    for variant, predicted in zip(VARIANTS, scores, strict=True):
        count = 250 if variant == "exp2_multiscale" else 300
        write_run(tmp_path, variant, mos[:count], predicted[:count])
    assert "test images: those of exp2_multiscale are not those of exp1_baseline" in refusal(tmp_path, capsys)
    numbers, _, _ = report(tmp_path, "--allow_mismatch")
    assert numbers["test_images"] == 250
    expected = stats.spearmanr(scores[0][:250], mos[:250]).statistic
    assert numbers["variants"]["exp1_baseline"]["srcc"]["estimate"] == pytest.approx(expected, abs=1e-9)


# ---- errors --------------------------------------------------------------------------------------------------


def spoil(name, text):
    return lambda folder: (folder / "exp1_baseline" / name).write_text(text)


@pytest.mark.parametrize(("damage", "named"), [
    (shutil.rmtree, "no such folder"),
    (lambda folder: [shutil.rmtree(folder / variant) for variant in VARIANTS], "no finished run"),
    (spoil("result.json", '{"variant": "exp1_bas'), "exp1_baseline/result.json: not JSON"),
    (spoil("result.json", "[]"), "exp1_baseline/result.json: expected a JSON object"),
    (spoil("config.json", "{}"), "exp1_baseline/config.json: no key 'variant'"),
    (lambda folder: (folder / "exp1_baseline/config.json").unlink(), "exp1_baseline/config.json: missing"),
    (lambda folder: (folder / "exp1_baseline/predictions_test.csv").unlink(), "predictions_test.csv: missing"),
    (spoil("predictions_test.csv", "image_name,mos\na,1\nb,2\n"), "predictions_test.csv: no column 'score'"),
    (spoil("predictions_test.csv", "image_name,mos,score\na,1,7\nb,2,7\n"), "csv: scores: all 2 are 7"),
    (spoil("predictions_test.csv", "image_name,mos,score\na,1,x\nb,2,7\n"), "csv: could not convert string to float"),
    (spoil("predictions_test.csv", "image_name,mos,score\na,1,nan\nb,2,7\n"), "csv: scores: 1 of 2 values are not"),
    (spoil("predictions_test.csv", "image_name,mos,score\na,1,3\na,2,7\n"), "csv: an image is named twice"),
    (lambda folder: (folder / "exp2_multiscale").rename(folder / "exp1_baseline_seed7"), "is 'exp2_multiscale'"),
    (lambda folder: shutil.copytree(folder / "exp1_baseline", folder / "exp1_baseline_seed42"), "with seed 42"),
])
def test_a_fault_of_the_files_is_one_line_that_names_the_file(tmp_path, capsys, damage, named):
    folder = write_ablation(tmp_path / "logs", images=30)
    damage(folder)
    error = refusal(folder, capsys)
    assert named in error and str(folder) in error


def test_labels_on_another_scale_are_never_paired(tmp_path, capsys):
    mos, scores = make_scores(300, (8, 7, 6))
    for variant, predicted in zip(VARIANTS, scores, strict=True):
        write_run(tmp_path, variant, mos / 20 if variant == "exp2_multiscale" else mos, predicted)
    assert "its MOS are not those of exp1_baseline" in refusal(tmp_path, capsys, "--allow_mismatch")


# ---- the files -----------------------------------------------------------------------------------------------


def test_figures_are_there_as_png_and_pdf_and_8_5_cm_wide(ablation):
    folder, _, page, _ = ablation
    for name in FIGURES:
        with Image.open(folder / "figures" / f"{name}.png") as picture:
            assert picture.width / picture.info["dpi"][0] * 2.54 == pytest.approx(8.5, abs=0.05)
        assert (folder / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert f"(figures/{name}.png)" in page
    assert sorted(path.name for path in (folder / "figures").iterdir()) == sorted(
        f"{name}.{kind}" for name in FIGURES for kind in ("png", "pdf"))


def test_the_same_runs_give_the_same_bytes(tmp_path):
    folder = write_ablation(tmp_path / "logs", images=60)
    first, second = [], []
    for contents in (first, second):
        report(folder, figures=True)
        contents += [path.read_bytes() for path in sorted(folder.glob("report.*")) + sorted(folder.glob("figures/*"))]
    assert first == second and len(first) == 3 + 2 * len(FIGURES)


@pytest.mark.parametrize("case", ["ablation", "three_seeds", "demo", "missing"])
def test_the_latex_compiles_inside_an_article(case, tmp_path, request):
    if not shutil.which("pdflatex"):
        pytest.skip("no pdflatex here: apt-get install texlive-latex-base")
    if case in ("ablation", "three_seeds"):
        folder = request.getfixturevalue(case)[0]
    else:
        folder = write_ablation(tmp_path / "logs", config={"dataset_note": f"{DEMO} & 100% {{x}}_#$~^\\ é"})
        if case == "missing":
            shutil.rmtree(folder / "exp3_multiscale_attention")
        report(folder, figures=True)
    (folder / "article.tex").write_text(
        r"\documentclass[twocolumn]{article}\usepackage{graphicx}"
        r"\begin{document}\section{A}\input{report}\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "article.tex"]
    for _ in range(2):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout[-2000:]
    assert "undefined" not in done.stdout and "Overfull \\hbox" not in done.stdout


def test_the_command_prints_the_table_and_never_loads_torch(tmp_path):
    folder = write_ablation(tmp_path / "logs", images=60)
    code = "import sys, report_ablation as r; status = r.main(); sys.exit(9 if 'torch' in sys.modules else status)"
    done = subprocess.run([sys.executable, "-c", code, str(folder), "--draws", "1000"], cwd=ROOT, capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert table[0] == "| Configuration | SRCC | PLCC | Δ SRCC | Time |" and len(table) == 7
    assert done.stdout.rstrip().endswith(table[-1])
    rho = stats.spearmanr(*predictions(folder / "exp1_baseline")).statistic
    assert table[3].startswith(f"| ResNet50 baseline | {rho:.4f} |") and table[3].endswith("| – | 28.5 s |")


def test_a_wrong_command_line_is_an_error_without_a_traceback(tmp_path):
    for arguments in ([str(tmp_path / "nowhere")], [str(tmp_path), "--draws", "5"]):
        command = [sys.executable, "report_ablation.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode != 0 and done.stdout == ""
        assert re.fullmatch(r"error: [^\n]+\n", done.stderr)

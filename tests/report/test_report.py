"""The numbers of the report: each follows from the predictions, and both pages show it."""

import numpy as np
import pytest
from made_up_runs import SEEDS, VARIANTS, predictions, report, verdict_of, write_ablation
from scipy import stats

from iqa.report import words


@pytest.fixture(scope="module")
def ablation(tmp_path_factory):
    """A finished ablation whose full variant is clearly better, and its report."""
    folder = write_ablation(tmp_path_factory.mktemp("ablation") / "logs", images=500, errors=(9.0, 8.9, 6.0))
    return folder, *report(folder)


@pytest.fixture(scope="module")
def three_seeds(tmp_path_factory):
    folder = write_ablation(tmp_path_factory.mktemp("seeds") / "logs", errors=(9.0, 8.0, 6.0), seeds=SEEDS)
    return folder, *report(folder)


# ---- numbers -------------------------------------------------------------------------------------------------


def test_every_metric_can_be_recomputed_from_the_predictions(ablation):
    folder, numbers, page, tex = ablation
    for variant, found in numbers["variants"].items():
        mos, scores = predictions(folder / variant)
        for name, value in (
            ("srcc", stats.spearmanr(scores, mos).statistic),
            ("plcc", stats.pearsonr(scores, mos).statistic),
            ("krcc", stats.kendalltau(scores, mos).statistic),
            ("rmse", np.sqrt(np.mean((scores - mos) ** 2))),
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
        first, second = (
            predictions(folder / f"{variant}_seed{found['seeds'][0]}")
            for variant in ("exp1_baseline", "exp3_multiscale_attention")
        )
        difference = stats.spearmanr(*second).statistic - stats.spearmanr(*first).statistic
        assert found["srcc"] == pytest.approx(difference, abs=1e-9)
        assert f"{difference:+.4f} ({found['seeds'][0]})" in page


def test_one_seed_is_said_to_be_one(ablation):
    _, _, page, tex = ablation
    assert "One seed (42)" in page and "One seed was trained" in tex

"""Made-up ablations with known effects: what the report says of each, and where its numbers come from."""

import re
import shutil

import numpy as np
import pytest
from made_up_runs import (
    BASELINE,
    DEMO,
    FULL,
    MULTISCALE,
    SEEDS,
    VARIANTS,
    make_scores,
    write_ablation,
    write_failed_run,
    write_grid,
)
from read_report import difference_of, interval, level_of, predictions, report, section_of, srcc_of
from scipy import stats

FIVE = (42, 43, 44, 45, 46)


def words_of(page):
    return re.findall(r"[^\s|*#]+", page)


# ---- the right answer for each ablation ----------------------------------------------------------------------


def test_no_effect(tmp_path):
    numbers, page, tex = report(write_ablation(tmp_path / "logs", images=1000, errors=(8, 8, 8), seeds=SEEDS))
    both = difference_of(numbers, "both")
    assert both["verdict"] == "not shown" and both["srcc"]["low"] < 0 < both["srcc"]["high"]
    ends = f"A gain above {both['srcc']['high']:.4f} and a loss beyond {-both['srcc']['low']:.4f} are ruled out."
    for text in (page, tex):
        assert "No effect of multi-scale fusion with attention" in text and ends in text
        assert "improves" not in text and "lowers" not in text
    for part in ("multiscale", "attention"):
        assert difference_of(numbers, part)["verdict"] == "not tested"


def test_an_effect_of_a_hundredth_with_five_seeds(tmp_path):
    """The errors give a true difference in SRCC of about 0.010."""
    folder = write_ablation(tmp_path / "logs", images=2000, errors=(8.0, 7.8, 7.55), seeds=FIVE)
    numbers, page, tex = report(folder)
    both = difference_of(numbers, "both")
    levels = [np.mean([srcc_of(folder / f"{variant}_seed{seed}") for seed in FIVE]) for variant in VARIANTS]
    assert both["srcc"]["value"] == pytest.approx(levels[2] - levels[0], abs=1e-9) and 0.006 < levels[2] - levels[0]
    assert both["verdict"] == "higher" and both["p_adjusted"] == both["srcc"]["p_value"] < 0.05
    sentence = f"Multi-scale fusion with attention improves SRCC on ResNet50 by {both['srcc']['value']:.4f}"
    assert sentence in page and sentence in tex and "5 runs of each variant" in page
    assert sentence.split()[-1] in words_of(page)[:60]
    for part in ("multiscale", "attention"):
        found = difference_of(numbers, part)
        assert found["p_adjusted"] >= max(both["p_adjusted"], found["srcc"]["p_value"])
    # levels and differences agree, and both are in the main table
    assert f"{levels[0]:.4f} ± " in page and interval(both["srcc"]) in page


def test_a_loss(tmp_path):
    numbers, page, _ = report(write_ablation(tmp_path / "logs", errors=(5, 6, 9), seeds=SEEDS))
    assert difference_of(numbers, "both")["verdict"] == "lower" and "attention lowers SRCC on ResNet50 by" in page


@pytest.mark.parametrize(
    ("collapse", "kind"),
    [
        (lambda mos, scores: np.full_like(scores, 58.0), "no defined score"),
        (lambda mos, scores: 58 + 0.01 * (scores - 58), "constant scores"),
        (lambda mos, scores: np.maximum(scores, mos.mean()), "one-sided scores"),
        (lambda mos, scores: scores[::-1], "a mean error above that of a constant"),
    ],
)
def test_one_collapsed_run_of_fifteen(tmp_path, capsys, collapse, kind):
    folder = write_ablation(
        tmp_path / "logs",
        errors=(8, 7, 6),
        seeds=FIVE,
        change=lambda run, mos, scores: (mos, collapse(mos, scores) if run == f"{FULL}_seed43" else scores),
        result={"selected_test_srcc": None, "selected_test_plcc": None},
    )
    numbers, page, tex = report(folder)
    both = difference_of(numbers, "both")
    for text in (page, tex, capsys.readouterr().out):
        assert "1 of 5 runs of + Multi-scale + attention failed" in text and kind in text
    healthy = np.mean([srcc_of(folder / f"{FULL}_seed{seed}") for seed in FIVE if seed != 43])
    baseline = np.mean([srcc_of(folder / f"{BASELINE}_seed{seed}") for seed in FIVE])
    if kind == "no defined score":  # it is counted, and in no mean
        assert both["srcc"]["seeds"] == [4, 5] and both["srcc"]["value"] == pytest.approx(healthy - baseline, abs=1e-9)
        assert both["verdict"] == "higher" and not both["failed"]
    else:
        assert both["srcc"]["seeds"] == [5, 5] and both["failed"] == [f"{FULL}_seed43"]
        assert both["healthy"]["value"] == pytest.approx(healthy - baseline, abs=1e-9)
        assert interval(both["healthy"]) in section_of(page, "Contributions")
        agree = both["srcc"]["p_value"] < 0.05
        assert both["verdict"] == ("higher" if agree else "withheld")
        assert ("No conclusion" in page) == (not agree)


def test_a_run_without_any_score_never_prevents_a_report(tmp_path):
    folder = write_ablation(tmp_path / "logs", images=1000, errors=(8, 7, 6), seeds=SEEDS)
    shutil.rmtree(folder / f"{MULTISCALE}_seed44")
    write_failed_run(folder, MULTISCALE, 1000, seed=44, suffix="_seed44")
    numbers, page, _ = report(folder)
    assert "1 of 3 runs of + Multi-scale failed: exp2_multiscale_seed44 (no epoch has a defined val SRCC" in page
    assert difference_of(numbers, "multiscale")["srcc"]["seeds"] == [2, 3]


def test_unequal_numbers_of_seeds(tmp_path):
    folder = write_ablation(tmp_path / "logs", images=1000, errors=(8, 7, 6), seeds=SEEDS)
    shutil.rmtree(folder / f"{MULTISCALE}_seed44")
    numbers, page, _ = report(folder)
    levels = {variant: level_of(numbers, variant)["srcc"]["value"] for variant in VARIANTS}
    for key, after, before in (
        ("both", FULL, BASELINE),
        ("multiscale", MULTISCALE, BASELINE),
        ("attention", FULL, MULTISCALE),
    ):
        found = difference_of(numbers, key)
        assert found["srcc"]["value"] == pytest.approx(levels[after] - levels[before], abs=1e-12)
    assert difference_of(numbers, "both")["verdict"] == "higher" and "improves SRCC" in page
    assert "lower (trained models)" not in page and "| Multi-scale alone | " in page


@pytest.mark.parametrize("seeds", [(42,), (42, 43)])
def test_few_seeds_compare_trained_models(tmp_path, seeds):
    numbers, page, tex = report(write_ablation(tmp_path / "logs", images=500, errors=(9, 8.9, 5), seeds=seeds))
    both = difference_of(numbers, "both")
    for text in (page, tex):
        assert "The trained ResNet50 with multi-scale fusion and attention has a higher SRCC" in text
        assert "This compares trained models; a comparison of the ideas needs 3 runs" in text and "improves" not in text
    assert "higher (trained models)" in page and both["srcc"]["seeds"] == [len(seeds)] * 2
    assert ("not the variation between seeds" in page) == (len(seeds) == 1)


def test_one_seed_has_the_percentile_interval_over_images(tmp_path):
    numbers, page, _ = report(write_ablation(tmp_path / "logs"))
    assert difference_of(numbers, "both")["srcc"]["run_variance"] is None and "unknown from one seed" in page
    assert level_of(numbers, BASELINE)["srcc_deviation"] is None and "±" not in page.split("Δ is against")[0]


def test_seeds_that_agree_by_luck_give_no_narrow_interval(tmp_path):
    """Three equal runs of each variant: the interval is as wide as the images alone make it."""
    known = dict(zip(VARIANTS, make_scores(1000, (8.0, 7.9, 7.8))[1], strict=True))
    folder = write_ablation(
        tmp_path / "logs",
        images=1000,
        seeds=SEEDS,
        change=lambda run, mos, scores: (mos, known[run.partition("_seed")[0]]),
    )
    numbers, _, _ = report(folder)
    both = difference_of(numbers, "both")["srcc"]
    draws = both["standard_error"]
    assert both["high"] - both["low"] == pytest.approx(2 * 1.96 * draws, rel=0.01) and draws > 0.002


# ---- limits --------------------------------------------------------------------------------------------------


def test_training_that_was_still_improving_is_a_limit_and_no_verdict(tmp_path):
    folder = write_ablation(tmp_path / "logs", errors=(9, 8, 5), seeds=SEEDS, val_srccs=(0.80, 0.84, 0.86))
    numbers, page, _ = report(folder)
    assert "improves SRCC" in page and difference_of(numbers, "both")["verdict"] == "higher"
    assert page.count("Still improving when training ended") == 1 and "+0.0200" in section_of(page, "Limits")
    assert level_of(numbers, BASELINE)["rise"] == pytest.approx(0.02)


def test_a_healthy_ablation_has_no_limit(tmp_path, capsys):
    numbers, page, _ = report(write_ablation(tmp_path / "logs", seeds=SEEDS))
    assert numbers["limits"] == [] and "Note:" not in capsys.readouterr().out and "No run failed" in page


def test_limitations_of_runs_are_grouped_by_kind(tmp_path, capsys):
    lost = {"target_layers": [{"dead": 0.9, "saturated": 0.0}]}
    _, page, _ = report(write_ablation(tmp_path / "logs", health=lost, seeds=SEEDS))
    lines = [line for line in capsys.readouterr().out.splitlines() if "layer of the target network" in line]
    assert len(lines) == 1 and "6 more" in lines[0] and page.count("layer of the target network") == 1


def test_a_choice_on_the_test_set_is_called_optimistic(tmp_path):
    _, page, tex = report(write_ablation(tmp_path / "logs", result={"select_on": "test"}))
    assert "chosen on the test images themselves" in page and "chosen on the test images themselves" in tex


def test_other_data_are_never_compared_with_published_figures(tmp_path, capsys):
    demo, other = {"config": {"dataset_note": DEMO}}, {"flags": {"dataset": "biq2021"}}
    for folder in (write_grid(tmp_path / "demo", **demo), write_ablation(tmp_path / "biq", **other)):
        numbers, page, tex = report(folder)
        for text in (page, tex, capsys.readouterr().out):
            assert "Not results on KonIQ-10k" in text and "0.8998" not in text and "SMART-IQA" not in text
        assert page.index("Not results") < page.index("SRCC") and numbers["published_figures"] == []


def test_published_figures_are_labelled(tmp_path):
    numbers, page, tex = report(write_ablation(tmp_path / "logs", flags={"dataset": "koniq-10k"}))
    for text in (page, tex):
        assert "HyperIQA (rerun by SMART-IQA's authors)" in text and "+0.0380" in text and "+0.0318" in text
    assert numbers["koniq"] and len(numbers["published_figures"]) == 2 and "+0.0040" in page


# ---- numbers -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ablation(tmp_path_factory):
    folder = write_ablation(
        tmp_path_factory.mktemp("ablation") / "logs", images=500, errors=(9, 8.9, 6), config={"gflop_per_patch": 4.087}
    )
    return folder, *report(folder)


def test_every_measure_can_be_recomputed_from_the_predictions(ablation):
    folder, numbers, page, tex = ablation
    for variant in VARIANTS:
        mos, scores = predictions(folder / variant)
        (run,) = level_of(numbers, variant)["runs"]
        for name, value in (
            ("srcc", stats.spearmanr(scores, mos).statistic),
            ("plcc", stats.pearsonr(scores, mos).statistic),
            ("krcc", stats.kendalltau(scores, mos).statistic),
            ("rmse", np.sqrt(np.mean((scores - mos) ** 2))),
        ):
            assert run[name] == pytest.approx(value, abs=1e-9)
            assert (f"{value:.1f} |" if name == "rmse" else f"{value:.4f}") in page
        assert f"{run['krcc']:.4f} & " in tex and f"{run['plcc_mapped']:.4f}" in tex and "4.09" in page
        assert f"{level_of(numbers, variant)['parameters']:,}" in page


def test_the_report_is_short_and_says_what_it_can_show(ablation):
    _, numbers, page, _ = ablation
    assert len(words_of(page)) < 1200
    both = difference_of(numbers, "both")
    assert both["resolvable"] == pytest.approx(2.80 * both["srcc"]["standard_error"], rel=0.01)
    assert f"{both['images_for_small']:,}" in section_of(page, "What this study can show")


def test_images_whose_error_changed_most_are_named(ablation):
    folder, numbers, page, _ = ablation
    mos, first = predictions(folder / BASELINE)
    change = np.abs(predictions(folder / FULL)[1] - mos) - np.abs(first - mos)
    named = [image["image_name"] for image in numbers["disagreements"]]
    assert named == [f"{i:05d}_photo.jpg" for i in np.argsort(-np.abs(change))[:5]] and named[0] in page


def test_the_setup_is_stated(ablation):
    page = ablation[2]
    for item in ("0123abc", "torch 2.9.0", "fp32", "7058 training", "abababababab", "lr 0.0001", "28.5 s"):
        assert item in page


def test_another_scale_of_mos_has_its_own_range_and_decimals(tmp_path):
    folder = write_ablation(
        tmp_path / "logs", change=lambda run, *pair: (1 + values / 25 for values in pair), config={"mos_range": [1, 5]}
    )
    _, page, _ = report(folder)
    assert "points of MOS (1–5)" in page
    assert re.search(r"\| \d{5}_photo\.jpg \| \d\.\d{3} \| \d\.\d{3} \| \d\.\d{3} \| [+-]\d\.\d{3} \|", page)


def test_two_copies_of_one_run_differ_by_nothing(tmp_path):
    scores = make_scores(300, [8.0])[1][0]
    numbers, page, _ = report(write_ablation(tmp_path / "logs", change=lambda run, mos, _: (mos, scores)))
    for found in numbers["differences"]:
        assert (found["srcc"]["value"], found["srcc"]["low"], found["srcc"]["high"]) == (0, 0, 0)
    assert "No effect" in page

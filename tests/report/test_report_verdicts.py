"""What the verdict says of a difference, and beside which published gain."""

import math
import re

import numpy as np
import pytest
from made_up_runs import SEEDS, VARIANTS, make_scores, report, verdict_of, write_ablation, write_run

from iqa.report import words


@pytest.fixture(scope="module")
def gains(tmp_path_factory):
    """Reports of a full variant that is clearly better, by the number of seeds."""
    folder = tmp_path_factory.mktemp("gains")
    return {
        count: report(write_ablation(folder / str(count), images=500, errors=(9.0, 8.9, 6.0), seeds=SEEDS[:count]))
        for count in (1, 2, 3)
    }


def test_from_three_seeds_on_the_verdict_is_about_the_ideas(gains):
    numbers, page, tex = gains[3]
    found = numbers["comparisons"]["both"]["srcc"]
    sentence = f"Multi-scale fusion with attention improves SRCC by {words.unsigned_interval(found)}"
    assert sentence in verdict_of(page) and sentence in tex
    assert "over images and seeds" in verdict_of(page) and "trained models" not in verdict_of(page)
    assert len(numbers["verdict"]) == 2 and "The gain is" in tex and "| higher |" in page


def test_a_clearly_worse_variant_is_called_worse(tmp_path):
    _, page, tex = report(write_ablation(tmp_path / "logs", errors=(6.0, 6.0, 9.0), seeds=SEEDS))
    assert "lowers SRCC by" in verdict_of(page) and "There is a loss where the published" in tex


def test_with_one_seed_the_verdict_is_about_two_trained_models(gains):
    numbers, page, tex = gains[1]
    found = numbers["comparisons"]["both"]["srcc"]
    differ = (
        f"The two trained models differ: multi-scale fusion with attention is {words.unsigned_interval(found)} higher in "
        "SRCC than the ResNet50 baseline, with 500 images and one seed (95% interval over images; "
    )
    for text in (verdict_of(page), tex.replace("\\%", "%")):
        assert differ in text and "One seed cannot tell the idea from the training." in text
    for text in (page, tex):
        assert "improves" not in text and "lowers" not in text and "The gain is" not in text
        assert "Between the trained models, the gain is" in text
    assert "| higher (trained models) |" in page


def test_two_seeds_are_too_few_for_the_ideas(gains):
    _, page, tex = gains[2]
    for text in (verdict_of(page), tex):
        assert "The trained models differ: multi-scale fusion with attention is" in text and "2 seeds" in text
        assert "over images and seeds" in text and "Two seeds are too few to tell the ideas from the trainings." in text
        assert "improves" not in text


def test_the_terminal_says_what_the_pages_say(tmp_path, capsys):
    numbers, page, _ = report(write_ablation(tmp_path / "logs", errors=(9.0, 8.9, 6.0)))
    assert verdict_of(page).strip("*") in capsys.readouterr().out and " ".join(numbers["verdict"]) in page


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


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.1, 0.4, "much smaller than"),
        (0.1, 0.9, "smaller than"),
        (0.85, 1.2, "similar to"),
        (0.6, 1.5, "comparable to"),
        (1.5, 3.0, "larger than"),
        (2.5, 3.0, "much larger than"),
        (0.2, 1.4, "not distinguishable in size from"),
    ],
)
def test_the_rule_for_the_size_of_a_gain(low, high, expected):
    assert words.size_words(low * 0.038, high * 0.038, 0.038) == expected


@pytest.mark.parametrize(
    ("estimate", "low", "high", "p_holm", "expected"),
    [
        (0.004, 0.002, 0.006, 0.001, "The gain is much smaller than it (+0.0380)"),
        (0.001, -0.003, 0.005, 0.6, "No gain is shown, and any gain is much smaller than it (+0.0380)"),
        (0.01, -0.03, 0.05, 0.6, "It is undecided: the interval holds no gain at all and one as large as it (+0.0380)"),
        (0.010, 0.001, 0.019, 0.06, "No gain is shown, and any gain is smaller than it (+0.0380)"),
        (0.025, 0.001, 0.050, 0.06, "It is undecided how any gain compares with it (+0.0380)"),
        (-0.010, -0.015, -0.005, 0.001, "There is a loss where it (+0.0380) is a gain"),
    ],
)
def test_an_undecided_result_gets_undecided_wording(estimate, low, high, p_holm, expected):
    interval = {"estimate": estimate, "low": low, "high": high, "p_holm": p_holm, "seeds": 3}
    comparison = {"identical": False, "srcc": interval, "sick": []}
    assert words.against_published(comparison, 0.038, "it") == expected
    interval["seeds"] = 1
    of_models = f"Between the trained models, {expected[:1].lower()}{expected[1:]}"
    assert words.against_published(comparison, 0.038, "it") == of_models
    comparison["sick"] = ["exp1_baseline"]
    assert words.against_published(comparison, 0.038, "it").startswith("Not compared with it (+0.0380)")


def test_another_scale_of_mos_has_its_own_range_and_decimals(tmp_path):
    mos, scores = make_scores(300, (8.0, 7.0, 6.9))
    for variant, predicted in zip(VARIANTS, scores, strict=True):
        write_run(tmp_path, variant, 1 + mos / 25, 1 + predicted / 25, config={"mos_range": [1, 5]})
    _, page, _ = report(tmp_path)
    assert "RMSE in points of MOS (1–5)" in page and "0–100" not in page
    assert re.search(r"\| \d{5}_photo\.jpg \| \d\.\d{3} \| \d\.\d{3} \| \d\.\d{3} \| [+-]\d\.\d{3} \|", page)

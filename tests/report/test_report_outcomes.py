"""The rules that read a gain: three outcomes, three conclusions, and the published use of attention; each at its boundary."""

import json
import re

import numpy as np
import pytest
from made_up_runs import DEMO, SEEDS, lose_a_layer, report, verdict_of, write_ablation, write_grid

from iqa.report import outcome_words as outcome_words
from iqa.report.outcomes import OUTCOMES, attention_numbers, attention_reading, outcome_numbers, outcome_of
from iqa.report.runs import STAGES

# ---- the three outcomes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("baseline", "full", "expected"),
    [
        (0.90, 0.909, "A"),
        (0.90, 0.9089, "B"),
        (0.90, 0.9027, "B"),
        (0.90, 0.9026, "C"),
        (0.90, 0.90, "C"),
        (0.90, 0.7, "C"),
    ],
)
def test_the_outcomes_begin_at_one_percent_and_at_three_per_thousand(baseline, full, expected):
    draws = np.full((1, 10), baseline), np.full((1, 10), full)
    found = outcome_numbers(np.array([baseline]), np.array([full]), draws)
    assert found["outcome"] == expected and found["shares"][expected] == 1 and sum(found["shares"].values()) == 1
    assert outcome_of(full / baseline - 1) == expected


def test_the_shares_are_those_of_the_draws_with_a_correlation():
    below = np.array([[0.5, 0.5, 0.5, 0.5, np.nan, -0.1]])
    above = np.array([[0.6, 0.503, 0.5, 0.4, 0.5, 0.5]])
    found = outcome_numbers(np.array([0.5]), np.array([0.503]), (below, above))
    assert found["shares"] == {"A": 0.25, "B": 0.25, "C": 0.5} and found["outcome"] == "B"


def test_no_relative_gain_over_a_baseline_without_correlation():
    assert outcome_numbers(np.array([-0.1]), np.array([0.2]), (np.zeros((1, 5)), np.zeros((1, 5)))) is None


def test_seeds_are_drawn_with_the_images():
    levels = np.array([0.90, 0.90, 0.90]), np.array([0.92, 0.90, 0.90])
    draws = tuple(np.repeat(level[:, None], 4000, axis=1) for level in levels)
    found = outcome_numbers(*levels, draws)
    # of three draws, the seed with a gain (2.2%) comes never (C), once (a third of it: B), or twice and more (A)
    assert found["shares"] == pytest.approx({"A": 7 / 27, "B": 12 / 27, "C": 8 / 27}, abs=0.03)


def outcome_of_view(outcome="A", share=0.96, seeds=3, sick=(), p_holm=0.01, high=0.03):
    rest = (1 - share) / 2
    shares = {name: share if name == outcome else rest for name in OUTCOMES}
    both = {
        "identical": False,
        "sick": list(sick),
        "srcc": {"estimate": 0.02, "low": 0.01, "high": high, "p_holm": p_holm, "seeds": seeds},
    }
    return {
        "family": {"title": "R"},
        "comparisons": {"both": both},
        "outcome": {"outcome": outcome, "relative_gain": 0.02, "baseline_srcc": 0.9, "shares": shares},
    }


@pytest.mark.parametrize(
    ("changes", "reading", "begins"),
    [
        (
            {},
            "A",
            "Outcome A on R: the gain of both ideas, +2.00% of the baseline's SRCC is in A, at least 1%; of the bootstrap 96.0% in A",
        ),
        ({"share": 0.95}, "A", "Outcome A on R"),
        ({"share": 0.949}, "undecided", "The outcome is undecided on R"),
        ({"p_holm": 0.05}, "undecided", "The outcome is undecided on R"),
        ({"seeds": 2}, "A (trained models)", "Between the trained models, outcome A on R"),
        ({"sick": ["exp1_baseline"]}, "not read (a run is not sound)", "The outcome on R is not read, since"),
        ({"outcome": "C", "high": 0.0026}, "C", "Outcome C on R"),
        ({"outcome": "C", "high": 0.0027}, "undecided", "The outcome is undecided on R"),
    ],
)
def test_an_outcome_is_worded_as_a_verdict_is(changes, reading, begins):
    view = outcome_of_view(**changes)
    assert outcome_words.outcome_reading(view["outcome"], view["comparisons"]["both"]) == reading
    assert outcome_words.outcome_sentence(view).startswith(begins)


def test_the_default_report_has_its_outcome(tmp_path):
    numbers, page, tex = report(write_ablation(tmp_path / "logs", images=500, errors=(9.0, 8.9, 6.0), seeds=SEEDS))
    found, variants = numbers["outcome"], numbers["variants"]
    levels = [variants[row]["srcc"]["estimate"] for row in ("exp1_baseline", "exp3_multiscale_attention")]
    assert found["relative_gain"] == pytest.approx(levels[1] / levels[0] - 1)
    for text in (page, tex.replace("\\%", "%")):
        assert f"Outcome A on ResNet50: the gain of both ideas, {found['relative_gain']:+.2%}" in text


# ---- the three conclusions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "on_cnn", "on_transformer", "interaction", "c_is_shown", "expected"),
    [
        ("higher", "higher", "higher", "undecided", False, "both"),
        ("higher", "higher", "higher", "higher", False, "both"),
        ("undecided", "higher", "higher", "undecided", False, "generality"),
        ("lower", "higher", "higher", "undecided", False, "generality"),
        ("higher", "undecided", "higher", "higher", False, "hierarchical"),
        ("higher", "lower", "undecided", "undecided", True, "hierarchical"),
        ("higher", "undecided", "undecided", "undecided", True, "hierarchical"),
        ("higher", "undecided", "higher", "undecided", False, None),
        ("undecided", "undecided", "higher", "higher", True, None),
        ("higher", "higher", "undecided", "undecided", False, None),
        ("undecided", "undecided", "undecided", "undecided", False, None),
    ],
)
def test_the_rule_for_the_conclusion(backbone, on_cnn, on_transformer, interaction, c_is_shown, expected):
    assert outcome_words.choose(backbone, on_cnn, on_transformer, interaction, c_is_shown) == expected


HIERARCHICAL = {"images": 1500, "errors": (9.0, 9.0, 8.9, 6.5, 6.0, 4.0)}


@pytest.fixture(scope="module")
def conclusions(tmp_path_factory):
    """Reports of grids whose effects call for each conclusion, and one of a single seed."""
    folder = tmp_path_factory.mktemp("conclusions")
    return {
        "hierarchical": report(write_grid(folder / "h", seeds=SEEDS, **HIERARCHICAL)),
        "both": report(write_grid(folder / "b", seeds=SEEDS, images=1500, errors=(9.0, 8.5, 7.0, 6.5, 6.0, 4.0))),
        "generality": report(write_grid(folder / "g", seeds=SEEDS, images=1500, errors=(9.0, 8.5, 7.0, 9.0, 8.5, 7.0))),
        "one seed": report(write_grid(folder / "o", **HIERARCHICAL)),
    }


@pytest.mark.parametrize("name", outcome_words.CHOICES)
def test_a_grid_of_known_effects_gets_its_conclusion(conclusions, name):
    numbers, page, tex = conclusions[name]
    assert numbers["conclusion"]["choice"] == name and numbers["conclusion"]["about"] == "ideas"
    sentence = outcome_words.CHOICES[name][:1].upper() + outcome_words.CHOICES[name][1:] + " (gain of the backbone"
    assert sentence in page and sentence in tex


def test_one_seed_draws_no_conclusion_about_the_ideas(conclusions):
    numbers, page, tex = conclusions["one seed"]
    assert numbers["conclusion"]["about"] == "models"
    for text in (page, tex):
        assert "crucial (gain" not in text and "Between the trained models the pattern is that of" in text


def test_a_sick_run_leaves_the_conclusion_unread(tmp_path):
    folder = write_grid(tmp_path / "logs")
    lose_a_layer(folder / "exp1_baseline")
    numbers, page, _ = report(folder)
    assert numbers["conclusion"] == {"choice": None, "about": "sick", "sentence": numbers["conclusion"]["sentence"]}
    assert (
        "is not read, since a run that it rests on is not sound." in page
        and "Outcome A on ResNet50" not in verdict_of(page)
    )


# ---- attention and complexity --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("best", "worst", "expected"),
    [
        ((0.02, 0.03, 0.05, 0.90), (0.25, 0.25, 0.25, 0.25), "seen"),
        ((0.02, 0.03, 0.05, 0.90), (0.15, 0.25, 0.25, 0.35), "seen"),
        ((0.02, 0.04, 0.04, 0.90), (0.25, 0.25, 0.25, 0.25), "in part"),
        ((0.02, 0.03, 0.05, 0.90), (0.14, 0.25, 0.26, 0.35), "in part"),
        ((0.20, 0.25, 0.25, 0.30), (0.25, 0.25, 0.25, 0.25), "in part"),
        ((0.21, 0.25, 0.25, 0.29), (0.25, 0.25, 0.25, 0.25), "not seen"),
        ((0.30, 0.25, 0.20, 0.25), (0.25, 0.25, 0.25, 0.25), "reverse"),
        ((0.29, 0.25, 0.21, 0.25), (0.25, 0.25, 0.25, 0.25), "not seen"),
    ],
)
def test_the_rule_for_the_published_use_of_attention(best, worst, expected):
    assert attention_reading(np.array(best), np.array(worst)) == expected
    groups = {stage: [worst[place], best[place]] for place, stage in enumerate(STAGES)}
    assert attention_numbers([groups, groups])["reading"] == expected


def test_seeds_that_disagree_are_said_to():
    even, deep = (
        {stage: [0.25, weight] for stage, weight in zip(STAGES, weights, strict=True)}
        for weights in ((0.25,) * 4, (0.01, 0.01, 0.08, 0.90))
    )
    assert attention_numbers([even, deep])["reading"] == "differs" and attention_numbers([]) is None


def test_attention_stands_side_by_side_and_is_compared_on_koniq_alone(conclusions, tmp_path):
    _, page, _ = conclusions["both"]
    assert "| Tenth by MOS (mean) | ResNet50, stage 1 |" in page and " | Swin-B, stage 4 |" in page
    assert (
        "On ResNet50, the published shift towards the deep stages is seen, its size or the balance is not: stages 3 and 4"
        in page
    )
    _, page, _ = conclusions["one seed"]
    assert "In the trained model on Swin-B, the published shift" in page
    _, page, _ = report(write_ablation(tmp_path / "logs", config={"dataset_note": DEMO}))
    assert "Not compared with the published attention" in page and "99.67%" not in page


def test_smart_iqas_own_attention_stands_beside_that_of_the_variants(tmp_path):
    numbers, page, _ = report(write_grid(tmp_path / "logs", published=(9.0, 4.0)))
    assert " | Swin-B, stage 4 | SMART-IQA (run here), stage 1 |" in page
    (line,) = re.findall(r"^\* (In the trained model on SMART-IQA \(run here\), .*)$", page, re.M)
    found = numbers["published_attention"]["attention_reading"]
    assert (
        f"{found['deep_in_best']:.1%} of the weight in the best tenth and {found['deep_in_worst']:.1%} in the worst"
        in line
    )
    best = numbers["published_attention"]["attention_by_mos"]
    assert found["deep_in_best"] == pytest.approx(best[STAGES[2]][-1] + best[STAGES[3]][-1])


def test_complexity_is_told_where_it_was_measured(tmp_path):
    folder = write_grid(tmp_path / "logs", config={"gflop_per_patch": 4.087}, result={"patches_per_second": 1234.56})
    for name, key in (("config.json", "gflop_per_patch"), ("result.json", "patches_per_second")):
        path = folder / "swin1_baseline" / name
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != key}))
    _, page, tex = report(folder)
    assert "| ResNet50 baseline | ResNet50 | 25,624,337 | 4.09 | 1,234.6 |" in page
    assert "| Swin-B baseline | Swin-B | 88,000,000 | not measured | not measured |" in page
    assert r"ResNet50 baseline & ResNet50 & 25,624,337 & 4.09 & 1,234.6 \\" in tex
    assert r"Swin-B baseline & Swin-B & 88,000,000 & not measured & not measured \\" in tex

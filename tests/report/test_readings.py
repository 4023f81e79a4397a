"""Three outcomes, the published use of attention, three conclusions: each rule at its boundary."""

import numpy as np
import pytest
from made_up_runs import DEMO, SEEDS, write_ablation, write_grid
from read_report import difference_of, interval, level_of, report, section_of

from iqa.report.readings import attention_reading, choose_conclusion, outcome_of


@pytest.mark.parametrize(
    ("baseline", "full", "expected"),
    [(0.90, 0.909, "A"), (0.90, 0.9089, "B"), (0.90, 0.9027, "B"), (0.90, 0.9026, "C"), (0.90, 0.7, "C")],
)
def test_the_outcomes_begin_at_one_percent_and_at_three_per_thousand(baseline, full, expected):
    assert outcome_of(full / baseline - 1) == expected


def test_a_large_gain_decides_the_outcome(tmp_path):
    numbers, page, _ = report(write_ablation(tmp_path / "logs", images=500, errors=(9.0, 8.9, 6.0), seeds=SEEDS))
    (found,) = numbers["outcomes"]
    levels = [level_of(numbers, row)["srcc"]["value"] for row in ("exp1_baseline", "exp3_multiscale_attention")]
    assert found["gain"] == pytest.approx(levels[1] / levels[0] - 1)
    assert found["outcome"] == "A" and found["decided"] and found["shares"]["A"] > 0.95
    assert sum(found["shares"].values()) == pytest.approx(1) and "| A | " in section_of(page, "Outcome")
    gain = interval(difference_of(numbers, "both")["srcc"])
    assert f"The measured gain is larger: {gain}" in section_of(page, "Published gain")


def test_an_undecided_outcome_says_what_would_decide_it(tmp_path):
    numbers, page, _ = report(write_ablation(tmp_path / "logs", images=500, errors=(8.0, 7.9, 7.7), seeds=SEEDS))
    (found,) = numbers["outcomes"]
    assert not found["decided"] and "undecided" in section_of(page, "Outcome")
    assert (found["images"] or 10**9) > 500 and (found["seeds"] or 10**9) > 3


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
    ],
)
def test_the_rule_for_the_published_use_of_attention(best, worst, expected):
    assert attention_reading(np.array(best), np.array(worst)) == expected


def test_attention_by_tenth_of_mos_and_beside_the_published_pattern(tmp_path):
    numbers, page, _ = report(write_grid(tmp_path / "logs", published=(9.0, 4.0)))
    assert [found["title"] for found in numbers["attention"]] == [
        "ResNet50: + Multi-scale + attention",
        "Swin-B: + Multi-scale + attention",
        "Swin-B: SMART-IQA (trained here)",
    ]
    found = numbers["attention"][0]
    assert len(found["mos"]) == 10 and found["mos"] == sorted(found["mos"])
    assert [weights[3] for weights in found["weights"]] == pytest.approx([0.25 + 0.005 * mos for mos in found["mos"]])
    assert found["reading"] == "in part" and "99.67%" in section_of(page, "Attention")
    _, page, _ = report(write_ablation(tmp_path / "demo", config={"dataset_note": DEMO}))
    assert "99.67%" not in page and "## Attention" in page


@pytest.mark.parametrize(
    ("backbone", "on_cnn", "on_transformer", "interaction", "c_on_cnn", "expected"),
    [
        ("higher", "higher", "higher", "not shown", False, "both"),
        ("not shown", "higher", "higher", "not shown", False, "generality"),
        ("lower", "higher", "higher", "not shown", False, "generality"),
        ("higher", "not shown", "higher", "higher", False, "hierarchical"),
        ("higher", "lower", "not shown", "not shown", True, "hierarchical"),
        ("higher", "not shown", "higher", "not shown", False, None),
        ("not shown", "not shown", "higher", "higher", True, None),
        ("higher", "higher", "not shown", "not shown", False, None),
        ("withheld", "higher", "higher", "higher", False, None),
    ],
)
def test_the_rule_for_the_conclusion(backbone, on_cnn, on_transformer, interaction, c_on_cnn, expected):
    assert choose_conclusion(backbone, on_cnn, on_transformer, interaction, c_on_cnn=c_on_cnn) == expected

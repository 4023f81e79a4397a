"""The health of the runs in the report: told before the verdict, and a verdict that rests on a sick run is no verdict."""

import json
import re

import numpy as np
import pytest
from made_up_runs import DEMO, SEEDS, VARIANTS, make_scores, report, verdict_of, write_ablation, write_run

TRAININGS = "a comparison with it is one of trainings, not of ideas."


def one_sided(scores, mos):
    """As on BIQ2021: the scores keep their order, and none is below the mean of the MOS."""
    return np.maximum(scores, mos.mean() + 0.01 * (scores - scores.min()))


def write_runs(
    folder, seeds=(42,), errors=(9.0, 8.5, 6.0), spoil="exp2_multiscale", change=lambda scores, mos: scores, **more
):
    """All variants with all seeds; the first run of `spoil` has changed scores and whatever `more` says."""
    mos, scores = make_scores(500, [error for error in errors for _ in seeds])
    for number, variant in enumerate(VARIANTS):
        for position, seed in enumerate(seeds):
            predicted, spoiled = scores[number * len(seeds) + position], variant == spoil and position == 0
            write_run(
                folder,
                variant,
                mos,
                change(predicted, mos) if spoiled else predicted,
                seed=seed,
                suffix=f"_seed{seed}" if len(seeds) > 1 else "",
                **(more if spoiled else {}),
            )
    return folder


SICK = {
    "one side": (
        {"change": one_sided},
        r"no score is below 5\d\.\d where MOS reach \d+\.\d: it cannot rate the low end",
    ),
    "constant bias": ({"change": lambda scores, mos: scores + 30}, r"scores are \d+\.\d too high on average"),
    "constant": ({"change": lambda scores, mos: 58 + 0.001 * scores}, "nine in ten scores lie between 58.0 and 58.1"),
    "dead layer": (
        {"health": {"target_layers": [{"dead": 0.1, "saturated": 0.0}, {"dead": 1.0, "saturated": 0.0}]}},
        "of the target network, in layer 2 100% of the units are dead",
    ),
    "one step": (
        {
            "val_srccs": (0.2,),
            "health": {"loss": {"training": 11.9, "constant": 12.0, "constant_from": "training MOS"}},
        },
        r"the training loss ended at 11\.9, 99% of that of one score for all images(.|\n)*one epoch was trained",
    ),
    "huge rate": ({"change": lambda scores, mos: 40 * scores}, "the scores are not on the scale of the MOS"),
    "still improving": (
        {"val_srccs": (0.80, 0.84, 0.86)},
        "still improving in its last epoch, 3, .* SRCC 0.0200 above",
    ),
}


@pytest.mark.parametrize("sign", SICK)
def test_a_sick_run_is_named_before_a_verdict_that_is_none(sign, tmp_path, capsys):
    changes, named = SICK[sign]
    numbers, page, tex = report(write_runs(tmp_path / "logs", SEEDS, **changes))
    output, tex = capsys.readouterr().out, tex.replace("\\%", "%").replace("$-$", "-")
    for text, verdict in ((page, "## Verdict"), (output, numbers["verdict"][0]), (tex, numbers["verdict"][1])):
        assert re.search(named, text) and TRAININGS in text
        assert text.index("not of ideas") < text.index(verdict)
        assert (
            "The training of multi-scale fusion (seed 42) is not sound: what rests on it is a comparison of trainings"
            in text
        )
        # the comparison of both ideas does not rest on that run; those of each alone do
        assert "Multi-scale fusion with attention improves SRCC by" in text
        assert not re.search("(alone|on top of it) (improves|lowers)", text)
    assert "* **exp2_multiscale_seed42**: " in page and "Not sound: exp2_multiscale_seed42: " in output
    assert "1 run of 9 not sound" in page and "(a run is not sound) |" in page
    assert numbers["verdict_is_about"] == {"multiscale": "sick", "attention": "sick", "both": "ideas"}
    assert numbers["comparisons"]["multiscale"]["sick"] == ["exp2_multiscale_seed42"]
    assert numbers["comparisons"]["both"]["sick"] == []
    found = next(run for run in numbers["health"] if run["folder"] == "exp2_multiscale_seed42")["findings"]
    assert {finding["severity"] for finding in found} == {"sick"}


@pytest.mark.parametrize("seeds", [(42,), SEEDS])
@pytest.mark.parametrize("spoil", ["exp1_baseline", "exp3_multiscale_attention"])
def test_no_page_says_improves_or_lowers_of_what_rests_on_a_sick_run(spoil, seeds, tmp_path, capsys):
    _, page, tex = report(write_runs(tmp_path / "logs", seeds, spoil=spoil, change=one_sided))
    for text in (verdict_of(page), tex, capsys.readouterr().out):
        assert "attention improves" not in text and "attention lowers" not in text
        assert "trained models" in text and "a comparison of trainings, not of ideas" in text
    # how far the full variant stays from a published figure is its own matter, and no result where it is sick
    assert ("Distance that remains to the published" in page) == (spoil == "exp1_baseline")
    for text in (page, tex):
        assert "The gain is" not in text and "the gain is" not in text and "any gain" not in text
        assert "since a run that the comparison rests on is not sound" in text


def test_healthy_runs_are_called_so_and_their_figures_shown(tmp_path, capsys):
    numbers, page, tex = report(write_ablation(tmp_path / "logs"))
    assert "No sign of a sick run among 3 runs." in page and page.index("No sign of") < page.index("## Verdict")
    assert "ot sound" not in page + tex + capsys.readouterr().out and "Note:" not in page
    scores = numbers["health"][0]["health"]["scores"]
    assert " ".join(f"{scores['scores'][p]:.1f}" for p in ("p1", "p5", "p50", "p95", "p99")) in page
    assert " ".join(f"{scores['mos'][p]:.1f}" for p in ("p1", "p5", "p50", "p95", "p99")) in page
    assert "| 0% / 1%, 0% / 1%, 0% / 1%, 0% / 1% | 2 of 3 | 3.0 | 12.0 |" in page


def test_a_run_of_before_is_judged_by_its_predictions_and_metrics(tmp_path):
    folder = write_runs(tmp_path / "logs", change=one_sided)
    for path in folder.glob("*/result.json"):
        result = json.loads(path.read_text())
        del result["health"]
        path.write_text(json.dumps(result))
    numbers, page, _ = report(folder)
    assert "* **exp2_multiscale**: no score is below" in page and "1 run of 3 not sound" in page
    assert f"not measured in {', '.join(VARIANTS)}." in page and "(test MOS)" in page
    assert numbers["health"][0]["health"]["loss"]["training"] == 3.0


def test_without_metrics_a_last_epoch_counts_as_still_improving(tmp_path):
    folder = write_ablation(tmp_path / "logs", val_srccs=(0.80, 0.84, 0.86))
    for path in folder.glob("*/metrics.jsonl"):
        path.unlink()
    assert "still improving in its last epoch, 3, which was chosen: " in report(folder)[1]


def test_the_demos_warning_stands_before_all_and_notes_after_the_signs(tmp_path):
    _, page, _ = report(write_ablation(tmp_path / "logs", val_srccs=(0.86, 0.85, 0.84), config={"dataset_note": DEMO}))
    assert (
        page.index(DEMO)
        < page.index("* Note: exp1_baseline: the chosen epoch is the first of 3")
        < page.index("## Verdict")
    )
    assert page.count(DEMO) == 1 and "No sign of a sick run" in page


def test_other_scales_have_their_own_decimals(tmp_path):
    mos, scores = make_scores(300, (8.0, 7.0, 6.9))
    for variant, predicted in zip(VARIANTS, scores, strict=True):
        cut = one_sided(predicted, mos) if variant == "exp2_multiscale" else predicted
        write_run(tmp_path, variant, 1 + mos / 25, 1 + cut / 25, config={"mos_range": [1, 5]})
    _, page, _ = report(tmp_path)
    assert re.search(r"no score is below 3\.\d{3} where MOS reach 1\.\d{3}", page) and "1 run of 3 not sound" in page

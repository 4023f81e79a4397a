"""Findings about a run: each is made where a run was spoiled, and hardly ever where it was not."""

import json

import numpy as np
import pytest
from made_up_runs import SOUND_LAYERS
from scipy import stats

from iqa.health import findings, health_lines, layer_health, run_health

SKEWED = stats.beta(5, 3).ppf(np.linspace(0.0005, 0.9995, 4000))  # in (0, 1), distributed as MOS of photographs
SCALES = [(0, 1), (1, 5), (0, 100)]
TEN = [{"epoch": e, "train_loss": 8.0, "val_srcc": 0.9 - 0.2 / e**2, "test_srcc": 0.8} for e in range(1, 11)]


def calibrated(images, correlation, seed=0, scale=(0, 100)):
    """Scores and MOS of a network that an L1 loss trained to its end: the median MOS given what it sees."""
    generator = np.random.default_rng([seed, images])
    quality = generator.standard_normal(images)
    seen = correlation * quality + np.sqrt(1 - correlation**2) * generator.standard_normal(images)
    low, high = scale
    scores, mos = (low + (high - low) * np.quantile(SKEWED, stats.norm.cdf(z)) for z in (correlation * seen, quality))
    return scores, mos


def health_of(scores, mos, scale=(0, 100), **changes):
    """The health of a run that is healthy but for its scores and the changes."""
    unit = (scale[1] - scale[0]) / 100
    sound = {
        "target_layers": SOUND_LAYERS,
        "selected_epoch": 8,
        "history": TEN,
        "select_on": "val",
        "train_loss": 8.0 * unit,
        "constant_loss": 15.0 * unit,
    }
    return run_health(scores=scores, mos=mos, mos_range=scale, **{**sound, **changes})


def kinds(*arguments, **changes):
    return [finding.kind for finding in findings(health_of(*arguments, **changes))]


# ---- scores --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("images", "runs"), [(200, 100), (2015, 20)])
@pytest.mark.parametrize("correlation", [0.62, 0.75, 0.85, 0.96])
def test_a_healthy_run_has_no_findings(images, runs, correlation):
    for seed in range(runs):
        scale = SCALES[seed % len(SCALES)]
        assert kinds(*calibrated(images, correlation, seed, scale), scale) == []


@pytest.mark.parametrize("scale", SCALES)
def test_a_one_sided_run_has_failed_whatever_its_srcc(scale):
    scores, mos = calibrated(600, 0.85, scale=scale)
    unit = (scale[1] - scale[0]) / 100
    cut = np.maximum(scores, mos.mean() + 0.01 * unit * (scores - scores.min()))
    assert stats.spearmanr(cut, mos).statistic > 0.75
    (found,) = findings(health_of(cut, mos, scale))
    assert found.kind == "one_sided" and found.failed and "low end" in found.sentence
    assert kinds(scale[0] + scale[1] - cut, scale[0] + scale[1] - mos, scale) == ["one_sided"]


@pytest.mark.parametrize(
    ("change", "expected", "failed"),
    [
        (lambda scores: np.full_like(scores, 61.0), "constant", True),
        (lambda scores: 60 + 0.05 * (scores - 60), "constant", True),
        (lambda scores: np.random.default_rng(0).permutation(scores), "error", True),
        (lambda scores: scores + 40, "error", True),
        (lambda scores: scores + 12, "bias", False),
        (lambda scores: 60 + 4 * (scores - 60), "wide", True),
        (lambda scores: np.minimum(scores, np.quantile(scores, 0.8)), "pile", False),
    ],
)
def test_failures_and_limitations_of_the_scores(change, expected, failed):
    scores, mos = calibrated(600, 0.9)
    found = findings(health_of(change(scores), mos))
    assert expected in [finding.kind for finding in found] and any(finding.failed for finding in found) == failed
    assert found == sorted(found, key=lambda finding: not finding.failed)


def test_a_handful_of_images_is_not_judged():
    scores, mos = calibrated(8, 0.8)
    assert kinds(scores + 40, mos) == ["few_images"]


def test_the_stored_measures_are_those_of_numpy():
    scores, mos = calibrated(600, 0.8)
    found = health_of(scores, mos)["scores"]
    for kind, values in (("scores", scores), ("mos", mos)):
        for percentile in (1, 5, 50, 95, 99):
            assert found[kind][f"p{percentile}"] == pytest.approx(np.percentile(values, percentile))
    assert found["near_lowest"]["scores"] == np.mean(scores <= scores.min() + 1)
    assert found["mean_error"] == pytest.approx(np.abs(scores - mos).mean())
    assert found["constant_error"] == pytest.approx(np.abs(mos - np.median(mos)).mean())
    json.dumps(health_of(scores, mos), allow_nan=False)


# ---- the target network --------------------------------------------------------------------------------------


def test_dead_and_saturated_units_are_counted():
    generator = np.random.default_rng(0)
    alive = generator.uniform(0.1, 0.9, (50, 4))
    constant, at_an_end = np.full((50, 3), 0.4), np.full((50, 1), 0.999)
    flipping = generator.integers(0, 2, (50, 2)) * 0.998 + 0.001
    found = layer_health(np.hstack([alive, constant, at_an_end, flipping]))
    assert found == {"dead": pytest.approx(0.4), "saturated": pytest.approx(0.3), "either": pytest.approx(0.6)}
    assert layer_health(alive) == {"dead": 0, "saturated": 0, "either": 0}
    assert layer_health(np.full((50, 2), np.nan))["dead"] == 1
    assert layer_health(alive[:1])["dead"] is None


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"dead": 1.0, "saturated": 0.0}, "layer 2 100% of the units are dead"),
        ({"dead": 0.4, "saturated": 0.4, "either": 0.8}, "40% of the units are dead and 40% saturated"),
        ({"dead": 0.5, "saturated": 0.5, "either": 0.5}, None),
    ],
)
def test_a_lost_layer_is_a_limitation(layer, words):
    found = findings(health_of(*calibrated(600, 0.8), target_layers=[SOUND_LAYERS[0], layer, SOUND_LAYERS[2], None]))
    assert not any(finding.failed for finding in found)
    assert [words in finding.sentence for finding in found] == ([True] if words else [])


# ---- epochs and loss -----------------------------------------------------------------------------------------


def epochs(*curve):
    lines = [{"epoch": e, "val_srcc": value} for e, value in enumerate(curve, start=1)]
    return {"history": lines, "selected_epoch": 1 + int(np.nanargmax(np.array(curve, dtype=float)))}


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (epochs(0.80, 0.84, 0.86), ["still_improving"]),
        (epochs(0.80, 0.86, 0.859), []),
        (epochs(0.880, 0.890, 0.894), []),  # a small rise
        (epochs(0.870, 0.891, 0.885, 0.889, 0.900), []),  # not twice the mean fall
        (epochs(0.78, 0.85, 0.84, 0.88), ["still_improving"]),
        (epochs(0.85), ["one_epoch"]),
        (epochs(None, 0.85), ["still_improving"]),
        (epochs(0.85, 0.80, 0.79), ["first_epoch"]),
        ({"history": [], "selected_epoch": 3, "epochs": 3}, ["still_improving"]),
    ],
)
def test_the_position_of_the_chosen_epoch(run, expected):
    assert kinds(*calibrated(600, 0.8), **run) == expected


@pytest.mark.parametrize(("loss", "expected"), [(14.9, ["loss"]), (13.4, []), (40.0, ["loss"]), (float("nan"), [])])
def test_a_loss_no_better_than_a_constants(loss, expected):
    assert kinds(*calibrated(600, 0.8), train_loss=loss) == expected


def test_what_an_older_run_did_not_keep_is_taken_from_the_test_images():
    scores, mos = calibrated(600, 0.8)
    found = health_of(scores, mos, target_layers=None, train_loss=None, constant_loss=None)
    assert found["loss"]["constant"] == pytest.approx(np.mean(np.abs(mos - np.median(mos))))
    assert found["loss"]["constant_from"] == "test MOS" and found["loss"]["training"] == 8.0
    assert findings(found) == []


# ---- the log -------------------------------------------------------------------------------------------------


def test_the_log_has_the_measures_and_the_findings():
    layers = [SOUND_LAYERS[0], {"dead": 1.0, "saturated": 0.0}]
    scores, mos = calibrated(600, 0.8)
    lines = health_lines(health_of(np.maximum(scores, mos.mean()), mos, target_layers=layers))
    assert not [line for line in lines if line.startswith(("Best Test", "Selected", "Epoch")) or "\n" in line]
    assert "0% / 1%, 100% / 0%" in "".join(lines)
    assert [line.partition(":")[0] for line in lines[4:]] == ["Failed", "Note"]
    assert len(health_lines(health_of(*calibrated(600, 0.8)))) == 4

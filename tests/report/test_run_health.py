"""The signs of a sick run: each is found where it was made on purpose, and hardly ever where it was not."""

import json

import numpy as np
import pytest
from made_up_runs import SOUND_LAYERS
from scipy import stats

from iqa import health
from iqa.health import findings, health_lines, is_sick, layer_health, run_health

SKEWED = stats.beta(5, 3).ppf(np.linspace(0.0005, 0.9995, 4000))  # in (0, 1), as photographs' MOS lie
SCALES = [(0, 1), (1, 5), (0, 100)]
TEN = [{"epoch": e, "train_loss": 8.0, "val_srcc": 0.9 - 0.2 / e**2, "test_srcc": 0.8} for e in range(1, 11)]


def calibrated(images, correlation, seed=0, scale=(0, 100)):
    """MOS and the scores of a network that an L1 loss trained to its end: the median MOS of what it sees."""
    generator = np.random.default_rng([seed, images])
    quality = generator.standard_normal(images)
    seen = correlation * quality + np.sqrt(1 - correlation**2) * generator.standard_normal(images)
    low, high = scale
    scores, mos = (low + (high - low) * np.quantile(SKEWED, stats.norm.cdf(z)) for z in (correlation * seen, quality))
    return scores, mos


def health_of(scores, mos, scale=(0, 100), **changes):
    """The health of a run that is sound but for its scores and the changes."""
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


def sick_signs(*arguments, **changes):
    return [finding["id"] for finding in findings(health_of(*arguments, **changes)) if finding["severity"] == "sick"]


# ---- healthy runs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("images", [200, 600, 2015])
def test_a_healthy_run_is_never_called_sick(images, scale):
    for correlation in (0.62, 0.75, 0.85, 0.96):
        for seed in range(200 if images == 200 else 20):
            assert sick_signs(*calibrated(images, correlation, seed, scale), scale) == []


def test_with_60_images_one_healthy_run_in_200_is_called_sick_at_most():
    """The share that docs/report.md names; it is measured over correlations, each with 200 seeds."""
    alarms = [bool(sick_signs(*calibrated(60, r, seed))) for r in (0.62, 0.75, 0.85, 0.96) for seed in range(200)]
    assert np.mean(alarms) <= 0.005


def test_the_figures_of_the_scores_are_those_of_numpy():
    scores, mos = calibrated(600, 0.8)
    found = health_of(scores, mos)["scores"]
    for kind, values in (("scores", scores), ("mos", mos)):
        for percentile in (1, 5, 50, 95, 99):
            assert found[kind][f"p{percentile}"] == pytest.approx(np.percentile(values, percentile))
    assert found["near_lowest"]["scores"] == np.mean(scores <= scores.min() + 1)
    assert found["near_highest"]["scores"] == np.mean(scores >= scores.max() - 1)
    json.dumps(health_of(scores, mos), allow_nan=False)


# ---- scores --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
def test_a_one_sided_run_is_named_with_its_consequence(scale):
    """As on BIQ2021: no score below the training mean, where the network started, and a good SRCC all the same."""
    scores, mos = calibrated(600, 0.85, scale=scale)
    unit = (scale[1] - scale[0]) / 100
    floor = mos.mean() + 0.01 * unit * (scores - scores.min())  # still in order, so that SRCC sees nothing
    cut = np.maximum(scores, floor)
    assert stats.spearmanr(cut, mos).statistic > 0.75
    assert sick_signs(cut, mos, scale) == ["low_end"]
    sentence = findings(health_of(cut, mos, scale))[0]["sentence"]
    digits = health.mos_decimals(scale)
    assert sentence.startswith(f"no score is below {cut.min():.{digits}f} where MOS reach {mos.min():.{digits}f}: ")
    assert sentence.endswith("a comparison with it is one of trainings, not of ideas.")
    turned = scale[0] + scale[1] - cut, scale[0] + scale[1] - mos
    assert sick_signs(*turned, scale) == ["high_end"]


def test_one_odd_score_does_not_hide_a_side_that_is_missing():
    scores, mos = calibrated(600, 0.85)
    cut = np.maximum(scores, mos.mean())
    cut[0] = mos.min()
    assert sick_signs(cut, mos) == ["low_end"]
    assert findings(health_of(cut, mos))[0]["sentence"].startswith("5% of the scores are below ")


@pytest.mark.parametrize(("images", "floor", "least"), [(60, 0.4, 0.95), (600, 0.3, 1.0), (2015, 0.3, 1.0)])
def test_a_floor_among_the_lower_mos_is_seen(images, floor, least):
    """By the share of MOS below the floor: on few images it takes more of them."""
    found = []
    for correlation in (0.65, 0.8, 0.92):
        for seed in range(20):
            scores, mos = calibrated(images, correlation, seed)
            found.append(bool(sick_signs(np.maximum(scores, 100 * np.quantile(SKEWED, floor)), mos)))
    assert np.mean(found) >= least


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda scores: scores + 25, "bias"),
        (lambda scores: scores - 25, "bias"),
        (lambda scores: 60 + 0.05 * (scores - 60), "narrow"),
        (lambda scores: 60 + 4 * (scores - 60), "wide"),
        (lambda scores: np.full_like(scores, 61.0), "narrow"),
        (lambda scores: np.minimum(scores, np.quantile(scores, 0.8)), "pile_high"),
        (lambda scores: np.random.default_rng(0).permutation(0.2 * scores + 50), "narrow"),
    ],
)
def test_scores_that_cannot_be_right_are_named(change, expected):
    scores, mos = calibrated(600, 0.8)
    assert expected in sick_signs(change(scores), mos)


def test_a_handful_of_images_is_not_judged():
    scores, mos = calibrated(8, 0.8)
    assert [finding["id"] for finding in findings(health_of(scores + 40, mos))] == ["few_images"]


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="1 of 3 scores or MOS are not finite"):
        health.score_health([1, 2, float("nan")], [1, 2, 3], (0, 100))


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
        ({"dead": 0.0, "saturated": 0.6}, "60% saturated"),
        ({"dead": 0.4, "saturated": 0.4, "either": 0.8}, "40% of the units are dead and 40% saturated"),
    ],
)
def test_a_lost_layer_is_named(layer, words):
    found = findings(health_of(*calibrated(600, 0.8), target_layers=[SOUND_LAYERS[0], layer, SOUND_LAYERS[2], None]))
    assert [finding["id"] for finding in found] == ["layers"] and words in found[0]["sentence"]


def test_half_a_layer_may_be_lost():
    assert sick_signs(*calibrated(600, 0.8), target_layers=[{"dead": 0.5, "saturated": 0.5, "either": 0.5}]) == []


# ---- epochs and loss -----------------------------------------------------------------------------------------


def epochs(*curve, chosen=None):
    lines = [{"epoch": e, "val_srcc": value} for e, value in enumerate(curve, start=1)]
    return {"history": lines, "selected_epoch": chosen or 1 + int(np.nanargmax(np.array(curve, dtype=float)))}


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (epochs(0.80, 0.84, 0.86), ["still_improving"]),
        (epochs(0.80, 0.86, 0.859), []),
        (epochs(0.880, 0.890, 0.8912), []),  # a rise that is small
        (epochs(0.880, 0.891, 0.885, 0.889, 0.894), []),  # a rise that is no larger than the falls
        (epochs(0.78, 0.85, 0.84, 0.88), ["still_improving"]),  # one that is
        (epochs(0.85), ["one_epoch"]),
        (epochs(None, 0.85), ["still_improving"]),
        ({"history": [], "selected_epoch": 3, "epochs": 3}, ["still_improving"]),
    ],
)
def test_a_run_that_was_still_improving_is_named(run, expected):
    assert sick_signs(*calibrated(600, 0.8), **run) == expected


def test_a_curve_that_moves_by_chance_is_hardly_ever_called_rising():
    """Ten epochs on a plateau, 0.003 of noise: 2% are called so; those that rise by 0.01 an epoch, nearly all."""
    noise = 0.003 * np.random.default_rng(0).standard_normal((1000, 10))
    called = [
        [
            bool(
                health.epoch_health(history=run["history"], selected_epoch=run["selected_epoch"], select_on="val")[
                    "still_improving"
                ]
            )
            for run in (epochs(*curve) for curve in curves)
        ]
        for curves in (0.9 + noise, 0.8 + 0.01 * np.arange(10) + noise)
    ]
    assert np.mean(called[0]) <= 0.03 and np.mean(called[1]) >= 0.95


def test_a_first_epoch_that_was_never_reached_again_is_a_note():
    found = findings(health_of(*calibrated(600, 0.8), **epochs(0.85, 0.80, 0.79)))
    assert [(finding["id"], finding["severity"]) for finding in found] == [("first_epoch", "note")]


@pytest.mark.parametrize(("loss", "expected"), [(14.9, ["loss"]), (13.4, []), (40.0, ["loss"]), (float("nan"), [])])
def test_a_loss_no_better_than_a_constants_is_named(loss, expected):
    assert sick_signs(*calibrated(600, 0.8), train_loss=loss) == expected


def test_what_a_run_of_before_did_not_keep_is_taken_from_the_test_images_or_unknown():
    scores, mos = calibrated(600, 0.8)
    found = health_of(scores, mos, target_layers=None, train_loss=None, constant_loss=None)
    assert found["loss"]["constant"] == pytest.approx(np.mean(np.abs(mos - np.median(mos))))
    assert found["loss"]["constant_from"] == "test MOS" and found["loss"]["training"] == 8.0
    assert not is_sick(findings(found))
    bad = health_of(scores, mos, train_loss=found["loss"]["constant"], constant_loss=None)
    assert "by the test MOS" in findings(bad)[0]["sentence"]


# ---- a training that went wrong ------------------------------------------------------------------------------


def test_one_step_of_training_is_called_so():
    _, mos = calibrated(600, 0.8)
    scores = mos.mean() + np.random.default_rng(0).normal(0, 0.5, 600)
    signs = sick_signs(scores, mos, train_loss=15.0, **epochs(0.1))
    assert signs == ["narrow", "loss", "one_epoch"]


def test_a_huge_rate_is_called_so():
    scores, mos = calibrated(600, 0.4)
    far = 3000 + 200 * scores
    layers = [layer_health(np.full((60, 5), 1.0))] * 4
    assert {"wide", "bias", "layers", "loss"} <= set(sick_signs(far, mos, train_loss=9000.0, target_layers=layers))


# ---- the log -------------------------------------------------------------------------------------------------


def test_the_log_tells_it_in_lines_that_nobody_greps_for():
    lines = health_lines(
        health_of(*calibrated(600, 0.8), target_layers=[SOUND_LAYERS[0], {"dead": 1.0, "saturated": 0.0}])
    )
    assert not [line for line in lines if line.startswith(("Best Test", "Selected", "Epoch")) or "\n" in line]
    assert "0% / 1%, 100% / 0%" in "".join(lines) and lines[-1].startswith("Sick: of the target network, in layer 2")
    assert not [line for line in health_lines(health_of(*calibrated(600, 0.8))) if line.startswith("Sick")]

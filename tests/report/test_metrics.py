"""Correlations and their bootstrap, against scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from iqa import metrics
from iqa.report.statistics import percentile_estimate

CORRELATIONS = {
    "srcc": lambda x, y: stats.spearmanr(x, y).statistic,
    "plcc": lambda x, y: stats.pearsonr(x, y).statistic,
    "krcc": lambda x, y: stats.kendalltau(x, y).statistic,
}


def two_models(images=250, seed=0, digits=1):
    """MOS and two sets of scores whose errors are related; rounded, so that there are ties."""
    generator = np.random.default_rng(seed)
    mos = generator.normal(58, 15, images).round(digits)
    common, *own = generator.normal(size=(3, images))
    return mos, [(mos + error * (0.8 * common + 0.6 * o)).round(digits) for error, o in zip((9, 7), own, strict=True)]


# ---- agreement -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CORRELATIONS)
@pytest.mark.parametrize("digits", [6, -1], ids=["no ties", "many ties"])
def test_correlations_are_scipys(name, digits):
    mos, (scores, _) = two_models(digits=digits)
    value = getattr(metrics, name)(scores, mos)
    assert type(value) is float
    assert value == pytest.approx(CORRELATIONS[name](scores, mos), abs=1e-12)


def test_ties_get_average_ranks():
    # ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5)
    assert metrics.srcc([10, 20, 20, 30], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5), abs=1e-15)


def test_a_change_of_scale_does_not_matter_even_an_extreme_one():
    mos, (scores, _) = two_models()
    for scale in (1e-200, 1e200):
        assert metrics.plcc(scores * scale, mos) == pytest.approx(metrics.plcc(scores, mos), abs=1e-12)


def test_rmse_is_in_points_of_mos():
    assert metrics.rmse([50.0, 60.0], [53.0, 56.0]) == pytest.approx(math.sqrt((9 + 16) / 2))


@pytest.mark.parametrize("name", ["srcc", "plcc", "krcc", "rmse", "logistic_map"])
@pytest.mark.parametrize(
    ("scores", "mos", "reason"),
    [
        ([1, 1, 1], [1, 2, 3], "scores: all 3 are 1"),
        ([1, 2, 3], [2, 2, 2], "mos: all 3 are 2"),
        ([1, math.nan, 3], [1, 2, 3], "scores: 1 of 3 values are not finite"),
        ([1, 2, 3], [1, math.inf, 3], "mos: 1 of 3 values are not finite"),
        ([1, 2, 3], [1, 2], r"one length, got shapes \(3,\) and \(2,\)"),
        ([[1, 2, 3]], [[1, 2, 3]], "vectors of one length"),
        ([1], [1], "at least 2 images, got 1"),
    ],
)
def test_input_without_a_correlation_is_refused(name, scores, mos, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        getattr(metrics, name)(scores, mos)
    assert "\n" not in str(caught.value)


def test_the_logistic_mapping_undoes_a_logistic():
    scores = np.linspace(-3, 3, 200)
    mos = 20 + 60 / (1 + np.exp(-(scores - 0.5) / 0.7))
    mapped = metrics.logistic_map(scores, mos)
    assert metrics.rmse(mapped, mos) < 1e-6
    assert metrics.plcc(mapped, mos) > metrics.plcc(scores, mos) + 0.005


def test_the_logistic_mapping_fits_no_worse_than_the_raw_scores():
    mos, models = two_models(images=2015)
    for scores in models:
        mapped = metrics.logistic_map(scores, mos)
        assert metrics.rmse(mapped, mos) < metrics.rmse(scores, mos)
        assert metrics.plcc(mapped, mos) > metrics.plcc(scores, mos) - 1e-3
        assert metrics.srcc(mapped, mos) == pytest.approx(metrics.srcc(scores, mos), abs=1e-9)


def test_a_fit_that_does_not_converge_is_an_error():
    with pytest.raises(ValueError, match="at least 5 images, got 4"):
        metrics.logistic_map([1, 2, 3, 4], [1, 3, 2, 4])
    scores = np.arange(40.0)
    with pytest.raises(ValueError, match="did not converge"):
        metrics.logistic_map(scores, np.exp(scores))  # no upper end: the best logistic lies at infinity


# ---- the bootstrap -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "digits"), [("percentile", 6), ("percentile", 0), ("BCa", 0)])  # 0: with ties
def test_paired_intervals_agree_with_scipy_to_a_tenth_of_their_width(method, digits):
    mos, (first, second) = two_models(digits=digits)
    draws = metrics.bootstrap_correlations([first, second], mos, draws=4000, seed=1)
    for name, found in zip(("srcc", "plcc"), draws, strict=True):
        interval = percentile_estimate(0.0, found[1] - found[0])
        expected = stats.bootstrap(
            (first, second, mos),
            lambda a, b, m, axis=-1, name=name: vectorised(name, b, m) - vectorised(name, a, m),
            paired=True,
            vectorized=True,
            n_resamples=4000,
            method=method,
            random_state=np.random.default_rng(2),
        ).confidence_interval
        tenth = 0.1 * (expected.high - expected.low)
        assert interval.low == pytest.approx(expected.low, abs=tenth)
        assert interval.high == pytest.approx(expected.high, abs=tenth)


def vectorised(name, x, y):
    """Correlation along the last axis, by scipy's ranks and the textbook formula."""
    if name == "srcc":
        x, y = stats.rankdata(x, axis=-1), stats.rankdata(y, axis=-1)
    x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    return (x * y).sum(axis=-1) / np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))


def test_draws_are_those_of_real_resamples():
    """With 3 images the 27 resamples can be listed: each draw is one of theirs, each of theirs is drawn."""
    scores, mos = np.array([1.0, 2.0, 2.0]), np.array([10.0, 20.0, 40.0])
    picks = np.stack(np.meshgrid(*[range(3)] * 3), axis=-1).reshape(-1, 3)
    for name, found in zip(("srcc", "plcc"), metrics.bootstrap_correlations(scores, mos, 2000), strict=True):
        with np.errstate(invalid="ignore"):
            expected = vectorised(name, scores[picks], mos[picks])
        values = {round(value, 9) for value in expected[~np.isnan(expected)]}
        assert {round(value, 9) for value in found[0][~np.isnan(found[0])]} == values
        assert np.isnan(found).mean() == pytest.approx(np.isnan(expected).mean(), abs=0.04)


def test_draws_depend_on_the_seed_alone_and_pair_the_models():
    mos, (first, second) = two_models()
    both, _ = metrics.bootstrap_correlations([first, second], mos, 300, seed=3)
    alone, _ = metrics.bootstrap_correlations(second, mos, 300, seed=3)
    other, _ = metrics.bootstrap_correlations(second, mos, 300, seed=4)
    assert np.array_equal(both[1], alone[0]) and not np.array_equal(alone, other)

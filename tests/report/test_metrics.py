"""Metrics and statistics: against scipy, against published worked examples, and on populations that are known."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import simulate_coverage  # noqa: E402

from iqa import metrics  # noqa: E402

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


@pytest.mark.parametrize("method", ["percentile", "BCa"])
@pytest.mark.parametrize("digits", [6, 0], ids=["no ties", "ties"])
def test_paired_intervals_agree_with_scipy_to_a_tenth_of_their_width(method, digits):
    mos, (first, second) = two_models(digits=digits)
    draws = metrics.bootstrap_correlations([first, second], mos, draws=4000, seed=1)
    for name, found in zip(("srcc", "plcc"), draws, strict=True):
        interval = metrics.image_interval(0.0, found[1] - found[0])
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


def test_two_copies_of_one_model_differ_by_exactly_nothing():
    mos, (scores, _) = two_models()
    draws, _ = metrics.bootstrap_correlations([scores, scores.copy()], mos, 500)
    interval = metrics.image_interval(0.0, draws[1] - draws[0])
    assert (interval.low, interval.high, interval.p_value) == (0.0, 0.0, 1.0)
    several = metrics.crossed_interval([0.0] * 3, np.zeros((3, 500)))
    assert (several.low, several.high, several.p_value) == (0.0, 0.0, 1.0)


def test_an_undefined_draw_is_left_out_and_counted():
    interval = metrics.image_interval(0.5, np.array([np.nan, *np.linspace(0.4, 0.6, 99)]))
    assert interval.undefined_draws == 1 and 0.4 <= interval.low < interval.high <= 0.6


# ---- seeds ---------------------------------------------------------------------------------------------------


def draws_of_seeds(seeds, shared=1.0, own=1.0, count=20_000):
    generator = np.random.default_rng(5)
    return shared * generator.normal(size=count) + own * generator.normal(size=(seeds, count))


def test_one_seed_is_the_image_interval():
    draws = draws_of_seeds(1)
    assert metrics.crossed_interval([0.3], draws) == metrics.image_interval(0.3, draws[0])
    assert metrics.crossed_interval([0.3], draws).seed_deviation is None


def test_what_seeds_share_and_how_they_vary_each_counts_once():
    draws = draws_of_seeds(3)
    as_much_as_their_own_noise = metrics.crossed_interval([1.0, 0.0, -1.0], draws)
    assert as_much_as_their_own_noise.standard_error == pytest.approx(math.sqrt(1 + 1 / 3), rel=0.02)
    varying = metrics.crossed_interval([10.0, 0.0, -10.0], draws)
    # the seeds' variance 100 holds what the images give each seed, 1
    assert varying.standard_error == pytest.approx(math.sqrt(1 + 100 / 3), rel=0.02)
    # nearly all from 3 seeds: Student's t with little more than 2 degrees of freedom, 4.30
    assert (varying.high - varying.estimate) / varying.standard_error == pytest.approx(4.1, abs=0.21)


def test_no_correlation_is_said_to_lie_beyond_one():
    draws = 0.8 + 0.001 * draws_of_seeds(2)
    for sign in (1, -1):
        whole, cut = (
            interval([0.7 * sign, 0.9 * sign], sign * draws)
            for interval in (metrics.crossed_interval, metrics.level_interval)
        )
        assert max(abs(whole.low), abs(whole.high)) > 1 == max(abs(cut.low), abs(cut.high))
        assert (cut.estimate, cut.standard_error) == (whole.estimate, whole.standard_error)
    sure = [0.8, 0.8]
    assert metrics.level_interval(sure, draws) == metrics.crossed_interval(sure, draws)


@pytest.mark.parametrize(
    "case",
    [*(simulate_coverage.CASES[place] for place in (1, 4)), *simulate_coverage.CASES[-3:-1]],
    ids=lambda case: case.name,
)
def test_intervals_cover_a_known_difference(case):
    """The short form of tests/simulate_coverage.py: 200 simulations, whose share has a standard error of 1.5%."""
    assert 0.90 <= simulate_coverage.coverage(case, simulations=200, images=300, draws=400, seed=0) <= 0.995


# ---- tests and power -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("r_jk", "r_jh", "r_kh", "images", "z", "digits"),
    [
        # Silver, Hittner & May (2006), A FORTRAN 77 program for comparing dependent correlations, Applied
        # Psychological Measurement 30, 152-153, as printed by its program DEPCOR: Z = -1.0718, p = .2838
        (0.3, 0.4, 0.5, 100, -1.0718, 4),
        # Steiger (1980), Psychological Bulletin 87, case A, p. 249. The article prints -.8913 from intermediate values
        # of four digits; -0.8887185 is what its formula gives, in the test suite of Diedenhofen & Musch (2015), cocor,
        # PLoS ONE 10(4) e0121945
        (0.4, 0.5, 0.1, 103, -0.8887185, 7),
    ],
)
def test_steigers_z_is_that_of_published_examples(r_jk, r_jh, r_kh, images, z, digits):
    found, _ = metrics.steiger(r_jk, r_jh, r_kh, images)
    assert round(found, digits) == z


def test_steigers_p_is_two_sided_and_the_test_survives_the_edges():
    assert round(metrics.steiger(0.3, 0.4, 0.5, 100)[1], 4) == 0.2838
    assert metrics.steiger(0.9, 0.9, 1.0, 100) == (0.0, 1.0)
    for edge in ((1.0, 0.99, 0.99, 50), (0.9, 0.900001, 1.0, 50), (0.9, 0.8, 0.7, 3)):
        assert all(math.isfinite(value) for value in metrics.steiger(*edge))


def test_holms_correction():
    # the step-down of Holm (1979): 3 x 0.01; then 2 x 0.03; then the larger of 0.06 and 0.04
    assert metrics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert metrics.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert metrics.holm([]) == []


def test_standard_errors_at_the_size_of_the_real_test_set():
    assert metrics.srcc_standard_error(0.90, 2015) == pytest.approx(0.005, abs=5e-5)
    error = metrics.difference_standard_error(0.90, 0.897, 0.95, 2015)
    assert 0.003 < error < 0.0037  # a difference of 0.003 is less than one standard error


@pytest.mark.parametrize("case", simulate_coverage.CASES[1:3], ids=lambda case: case.name)
def test_the_formula_for_the_standard_error_agrees_with_the_bootstrap(case):
    mos, scores = simulate_coverage.simulate(case, 4000, np.random.default_rng(0))
    draws, _ = metrics.bootstrap_correlations(scores[:, 0], mos, 1000)
    correlations = [metrics.srcc(scores[0, 0], mos), metrics.srcc(scores[1, 0], mos), metrics.srcc(*scores[:, 0])]
    formula = metrics.difference_standard_error(*correlations, 4000)
    assert formula == pytest.approx((draws[1] - draws[0]).std(), rel=0.12)  # about 5% too large, on normal data


def test_what_is_resolvable_is_shown_with_80_percent_power():
    error = 0.0034
    true = metrics.resolvable_difference(error)
    estimates = np.random.default_rng(0).normal(true, error, 100_000)
    assert np.mean(np.abs(estimates) > 1.959964 * error) == pytest.approx(0.80, abs=0.005)


def test_with_the_images_needed_the_difference_is_resolvable():
    images = metrics.images_needed(0.003, metrics.difference_standard_error(0.90, 0.90, 0.95, 2015), 2015)
    for count, resolved in ((images, True), (images - 2, False)):
        error = metrics.difference_standard_error(0.90, 0.90, 0.95, count)
        assert (metrics.resolvable_difference(error) <= 0.003) is resolved


def test_seeds_needed():
    draws = draws_of_seeds(3, shared=0.0005, own=0.001)
    # 2.80 sqrt(0.0005^2 + s^2 / S) <= 0.003 with s = 0.002 needs S = 0.002^2 / ((0.003 / 2.80)^2 - 0.0005^2) = 4.5
    assert metrics.seeds_needed(0.003, [0.003, 0.001, 0.005], draws) == 5
    assert metrics.seeds_needed(0.003, [0.003, 0.001, 0.005], draws_of_seeds(3, shared=0.002, own=0.001)) is None

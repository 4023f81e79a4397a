"""Estimates over images and seeds, tests and sample sizes, on designs whose answer is known."""

import math
import sys

import numpy as np
import pytest
from conftest import ROOT
from scipy import stats

from iqa.report.statistics import (
    Measured,
    combined_estimate,
    gatekeeping,
    heterogeneity_p,
    holm,
    images_needed,
    percentile_estimate,
    resolvable_difference,
    seeds_needed,
)

sys.path.insert(0, str(ROOT / "tools"))
import simulate_statistics  # noqa: E402

TERMS = [(1, (3, 4, 5)), (-1, (0, 1, 2))]


def design(values, shared=1.0, own=1.0):
    """Six runs whose images' noise is `shared` by all and `own` to each, as variances."""
    return np.array(values, dtype=float), np.full((6, 6), shared) + own * np.eye(6)


def test_one_seed_is_the_percentile_bootstrap_over_images():
    draws = np.random.default_rng(0).normal(0.01, 0.004, (2, 5000))
    found = Measured(np.array([0.90, 0.91]), draws).contrast([(1, (1,)), (-1, (0,))])
    expected = np.quantile(draws[1] - draws[0], (0.025, 0.975))
    assert (found.low, found.high) == pytest.approx(tuple(expected)) and found.value == pytest.approx(0.01)
    assert found.seeds == (1, 1) and math.isinf(found.freedom)


def test_undefined_resamples_are_left_out():
    found = percentile_estimate(0.5, np.array([np.nan, *np.linspace(0.4, 0.6, 99)]))
    assert 0.4 <= found.low < found.high <= 0.6


def test_what_runs_share_cancels_and_their_spread_counts_once():
    found = combined_estimate(*design([10, 0, -10, 10, 0, -10]), TERMS)
    # the variance between runs, 100, includes what the images give each run, 1
    assert found.standard_error == pytest.approx(math.sqrt(2 * 100 / 3))
    assert found.freedom == pytest.approx(4)
    assert (found.high - found.value) / found.standard_error == pytest.approx(stats.t.ppf(0.975, 4))


def test_runs_that_agree_by_luck_have_the_images_noise():
    found = combined_estimate(*design([5, 5, 5, 6, 6, 6]), TERMS)
    assert found.standard_error == pytest.approx(math.sqrt(2 * 1 / 3)) and found.value == pytest.approx(1)
    assert found.p_value > 0.2


def test_unequal_numbers_of_runs():
    values, covariance = design([0, 1, 2, 4, 6, 0])
    found = combined_estimate(values, covariance, [(1, (3, 4)), (-1, (0, 1, 2))])
    assert found.value == pytest.approx(5 - 1) and found.seeds == (2, 3)
    assert found.standard_error == pytest.approx(math.sqrt(2 / 2 + 1 / 3))  # s^2 of 2 and 1, over 2 and 3 runs


def test_identical_runs_differ_by_exactly_nothing():
    found = combined_estimate(np.ones(6), np.zeros((6, 6)), TERMS)
    assert (found.low, found.high, found.p_value) == (0, 0, 1)


@pytest.mark.parametrize("signs", [(1,), (1, -1), (1, -1, -1, 1)])
def test_intervals_are_cut_to_the_possible_values(signs):
    values = np.array([-0.9, 0.9] * len(signs))
    terms = [(sign, (2 * k, 2 * k + 1)) for k, sign in enumerate(signs)]
    found = Measured(values, np.random.default_rng(0).normal(0, 0.01, (len(values), 500))).contrast(terms)
    assert (found.low, found.high) == (-len(signs), len(signs))


@pytest.mark.parametrize("seeds", [(2, 2), (3, 2), (5, 5)])
def test_intervals_cover_a_known_difference(seeds):
    """The short form of tools/simulate_statistics.py."""
    share, _ = simulate_statistics.coverage(seeds, deviation=0.003, images=300, gain=0.01, ablations=200, seed=0)
    assert share >= 0.93


# ---- tests ---------------------------------------------------------------------------------------------------


def test_holms_correction():
    # the step-down of Holm (1979): 3 x 0.01; then 2 x 0.03; then the larger of 0.06 and 0.04
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0]) and holm([]) == []


def test_parts_are_tested_behind_the_primary_comparison():
    assert gatekeeping(0.001, [0.01, 0.03]) == pytest.approx([0.02, 0.03])
    assert gatekeeping(0.2, [0.01, 0.03]) == pytest.approx([0.2, 0.2])


def test_heterogeneity():
    def group(value, error, freedom=math.inf):
        draws = np.array([value, value])
        found = percentile_estimate(value, draws)
        return type(found)(**{**vars(found), "standard_error": error, "freedom": freedom})

    # three groups with one standard error of 1 and a spread of 9: chi-squared 2 x 9 with 2 degrees of freedom
    assert heterogeneity_p([group(v, 1) for v in (0, 3, 6)]) == pytest.approx(stats.chi2.sf(18, 2))
    assert heterogeneity_p([group(v, 1, 4) for v in (0, 3, 6)]) > stats.chi2.sf(18, 2)
    assert heterogeneity_p([group(1, 1)] * 3) == pytest.approx(1)
    # two groups with many degrees of freedom: Welch's t test
    expected = 2 * stats.t.sf(2 / math.sqrt(1 + 4), (1 + 4) ** 2 / (1 / 50 + 16 / 50))
    assert heterogeneity_p([group(0, 1, 50), group(2, 2, 50)]) == pytest.approx(expected, rel=0.01)


# ---- sample sizes --------------------------------------------------------------------------------------------


def test_what_is_resolvable_is_shown_with_80_percent_power():
    found = percentile_estimate(0.0, np.random.default_rng(0).normal(0, 0.0034, 100_000))
    true = resolvable_difference(found)
    estimates = np.random.default_rng(1).normal(true, 0.0034, 100_000)
    assert np.mean(np.abs(estimates) > 1.959964 * 0.0034) == pytest.approx(0.80, abs=0.01)


def test_images_and_seeds_needed():
    one = percentile_estimate(0.0, np.random.default_rng(0).normal(0, 0.004, 100_000))
    assert images_needed(one, 1000, 0.002) == pytest.approx(4000, rel=0.02) and seeds_needed(one, 0.002) is None
    several = combined_estimate(*design([0, 2, 4, 0, 2, 4], shared=0, own=1), TERMS)
    # between runs 4, of which images 1: variance 2 (3 + 1 n / n') / S
    assert seeds_needed(several, 1.01) == 8
    assert images_needed(several, 1000, math.sqrt(2 * (3 + 0.5) / 3)) == pytest.approx(2000, abs=1)
    assert images_needed(several, 1000, 1.0) is None

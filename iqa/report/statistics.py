"""Estimates with intervals over test images and seeds, and the tests that the report makes of them.

The design is that of a multi-reader, multi-case study: runs of a variant are random and independent between variants,
the test images are random and shared by all runs. Obuchowski and Rockette (1995), Commun. Stat. Simul. 24, 285-308;
Owen (2007), The pigeonhole bootstrap, Ann. Appl. Stat. 1, 386-411.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import stats

LEVEL = 0.95  # of every interval
ALPHA = 0.05  # of every test
POWER = 0.80  # power at the smallest difference that a test set resolves
Z = float(stats.norm.ppf((1 + LEVEL) / 2))
Z_POWER = float(stats.norm.ppf(POWER))

Terms = Sequence[tuple[int, Sequence[int]]]  # of a sum of coefficient * mean: the coefficients, and the runs of a mean


@dataclass(frozen=True)
class Estimate:
    """A mean over runs, or a difference of such means, with its two-sided 95% interval."""

    value: float
    low: float
    high: float
    standard_error: float
    freedom: float  # degrees of freedom of the interval; infinite if it covers images only
    p_value: float  # of the hypothesis that the true value is 0
    seeds: tuple[int, ...]  # number of runs of each variant
    image_variance: float  # part of the variance that is common to all runs, for these images
    run_variance: float  # sum over variants of coefficient^2 * variance between runs, images' noise included
    run_image_variance: float  # the same sum of the images' noise that each run has for itself


@dataclass(frozen=True)
class Measured:
    """One correlation of R runs on the same images: values [R] and B bootstrap resamples of the images [R, B]."""

    values: np.ndarray
    resamples: np.ndarray

    @cached_property
    def covariance(self) -> np.ndarray:
        """Covariance of the runs [R, R] over resampled images. Resamples with an undefined correlation are left out."""
        defined = self.resamples[:, ~np.isnan(self.resamples).any(axis=0)]
        return np.atleast_2d(np.cov(defined))

    def contrast(self, terms: Terms) -> Estimate:
        """Estimate a sum of coefficient * mean over the runs of a variant, cut to the possible values.

        With one run of any variant the interval is the percentile bootstrap over images, for the trained models alone.
        Otherwise it also covers other seeds.
        """
        seeds, most = tuple(len(runs) for _, runs in terms), float(sum(abs(coefficient) for coefficient, _ in terms))
        if min(seeds) > 1:
            estimate = combined_estimate(self.values, self.covariance, terms)
        else:
            resamples = weights_of(terms, len(self.values)) @ self.resamples
            estimate = percentile_estimate(sum_of_means(self.values, terms), resamples, seeds)
        return replace(estimate, low=max(-most, estimate.low), high=min(most, estimate.high))


def weights_of(terms: Terms, count: int) -> np.ndarray:
    """Weight of each of `count` runs in the sum of coefficient * mean."""
    weights = np.zeros(count)
    for coefficient, runs in terms:
        weights[list(runs)] += coefficient / len(runs)
    return weights


def critical_value(freedom: float) -> float:
    """Standard errors from an estimate to an end of its interval."""
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom))


def sum_of_means(values: np.ndarray, terms: Terms) -> float:
    """Exactly 0 for the difference of equal runs, unlike a product of weights and values."""
    return float(sum(coefficient * values[list(runs)].mean() for coefficient, runs in terms))


def percentile_estimate(value: float, resamples: np.ndarray, seeds: tuple[int, ...] = (1,)) -> Estimate:
    """Percentile bootstrap over images; the p-value inverts the interval, counting one resample more.

    Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapters 13 and 15.
    """
    defined = resamples[~np.isnan(resamples)]
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    rarer_side = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    p_value = min(1.0, 2 * (rarer_side + 1) / (len(defined) + 1))
    variance = float(defined.var(ddof=1))
    return Estimate(value, low, high, math.sqrt(variance), math.inf, p_value, seeds, variance, math.nan, math.nan)


def combined_estimate(values: np.ndarray, covariance: np.ndarray, terms: Terms) -> Estimate:
    """Estimate over images and seeds, at least two runs of each variant.

    With s^2 the variance between a variant's S runs, o their own image noise (mean diagonal less mean off-diagonal of
    their covariance over resampled images) and c the coefficient,

        variance = images' part common to all runs + sum of c^2 max(s^2, o) / S

    and Satterthwaite's (1946) degrees of freedom. The maximum keeps the interval from being narrower than the images
    alone allow if the seeds agree by chance.
    """
    between, own = [], []
    for coefficient, runs in terms:
        block, count = covariance[np.ix_(runs, runs)], len(runs)
        noise = max(0.0, (np.trace(block) - block.sum() / count) / (count - 1))
        own.append(coefficient**2 * noise)
        between.append(coefficient**2 * max(float(np.var(values[list(runs)], ddof=1)), noise))
    between, own, seeds = np.array(between), np.array(own), np.array([len(runs) for _, runs in terms])
    weights = weights_of(terms, len(values))
    common = max(0.0, float(weights @ covariance @ weights - np.sum(own / seeds)))
    variance = common + float(np.sum(between / seeds))
    value, error = sum_of_means(values, terms), math.sqrt(variance)
    spread = float(np.sum((between / seeds) ** 2 / (seeds - 1)))
    degrees = variance**2 / spread if spread > 0 else math.inf
    reach = critical_value(degrees) * error
    p_value = float(2 * stats.t.sf(abs(value) / error, degrees)) if error > 0 else float(value == 0)
    variances = common, float(between.sum()), float(own.sum())
    return Estimate(value, value - reach, value + reach, error, degrees, p_value, tuple(seeds.tolist()), *variances)


# ---- tests ---------------------------------------------------------------------------------------------------


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given. Holm (1979), Scand. J. Statist. 6, 65-70."""
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def gatekeeping(primary: float, parts: Sequence[float]) -> list[float]:
    """Adjusted p-values of the parts, which are tested only if the primary comparison is significant.

    Dmitrienko and Tamhane (2007), Gatekeeping procedures with clinical trial applications, Pharm. Stat. 6, 171-180.
    """
    return [max(primary, p_value) for p_value in holm(parts)]


def heterogeneity_p(estimates: Sequence[Estimate]) -> float:
    """p-value of the hypothesis that two or more groups have one true value: Welch's test for unequal variances.

    Welch (1951), On the comparison of several mean values, Biometrika 38, 330-336.
    """
    values = np.array([estimate.value for estimate in estimates])
    variances = np.array([estimate.standard_error**2 for estimate in estimates])
    groups = len(values)
    if not (variances > 0).all():
        return 1.0
    weights = 1 / variances
    shares = weights / weights.sum()
    freedom = np.array([estimate.freedom for estimate in estimates])
    penalty = float(np.sum((1 - shares) ** 2 / freedom))
    between = float(np.sum(weights * (values - shares @ values) ** 2)) / (groups - 1)
    statistic = between / (1 + 2 * (groups - 2) / (groups**2 - 1) * penalty)
    if penalty == 0:
        return float(stats.chi2.sf(statistic * (groups - 1), groups - 1))
    return float(stats.f.sf(statistic, groups - 1, (groups**2 - 1) / (3 * penalty)))


# ---- how large a study would have to be ----------------------------------------------------------------------


def resolvable_difference(estimate: Estimate) -> float:
    """The smallest true difference that one two-sided 5% test of this design shows with 80% power."""
    return (critical_value(estimate.freedom) + Z_POWER) * estimate.standard_error


def images_needed(estimate: Estimate, images: int, standard_error: float) -> int | None:
    """Test images at which these runs' standard error falls to the one given; None where no number suffices."""
    if math.isnan(estimate.run_variance):
        return math.ceil(images * estimate.image_variance / standard_error**2)
    seeds = len(estimate.seeds) / sum(1 / count for count in estimate.seeds)  # harmonic mean
    seeds_part = (estimate.run_variance - estimate.run_image_variance) / seeds
    left = standard_error**2 - seeds_part
    images_part = estimate.image_variance + estimate.run_image_variance / seeds
    return math.ceil(images * images_part / left) if left > 0 else None


def seeds_needed(estimate: Estimate, standard_error: float) -> int | None:
    """Seeds of each variant at which the standard error falls to the one given; None where no number suffices.

    Unknown, and None, with one seed.
    """
    left = standard_error**2 - estimate.image_variance
    if math.isnan(estimate.run_variance) or left <= 0:
        return None
    return max(2, math.ceil(estimate.run_variance / left))

"""How well scores agree with mean opinion scores, and how certain that is: numpy in, plain numbers out.

Everything is computed in float64. Constant, non-finite or unequal input is a ValueError: a correlation that
does not exist never passes for a number. Scores and MOS share one scale, 0-100; correlations lie in [-1, 1].
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

DRAWS = 10_000  # of a bootstrap
LEVEL = 0.95  # of an interval
DEGREES = 0.5  # share of the freedom that Satterthwaite gives: by simulation, see crossed_interval
POWER = 0.80  # chance to show a difference that is there
Z = float(stats.norm.ppf((1 + LEVEL) / 2))
_CHUNK = 32  # draws at a time: 32 x 2,015 float64 stay in a processor's cache


# ---- agreement ---------------------------------------------------------------------------------------------


def checked_pair(scores: ArrayLike, mos: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 vectors of one length, finite and not constant, or a ValueError that says why not."""
    pair = {"scores": np.asarray(scores, dtype=np.float64), "mos": np.asarray(mos, dtype=np.float64)}
    if pair["scores"].ndim != 1 or pair["scores"].shape != pair["mos"].shape:
        shapes = " and ".join(str(values.shape) for values in pair.values())
        raise ValueError(f"scores and mos must be vectors of one length, got shapes {shapes}")
    if len(pair["mos"]) < 2:
        raise ValueError(f"a correlation needs at least 2 images, got {len(pair['mos'])}")
    for name, values in pair.items():
        unusable = np.count_nonzero(~np.isfinite(values))
        if unusable:
            raise ValueError(f"{name}: {unusable} of {len(values)} values are not finite")
        if values.min() == values.max():
            raise ValueError(f"{name}: all {len(values)} are {values[0]:g}; a constant has no correlation")
    return pair["scores"], pair["mos"]


def srcc(scores: ArrayLike, mos: ArrayLike) -> float:
    """Spearman's rank correlation: Pearson's, of the ranks; ties get their average rank.

    Spearman (1904), The proof and measurement of association between two things, Am. J. Psychol. 15, 72-101.
    """
    scores, mos = checked_pair(scores, mos)
    return plcc(stats.rankdata(scores), stats.rankdata(mos))


def plcc(scores: ArrayLike, mos: ArrayLike) -> float:
    """Pearson's linear correlation, sum(x y) / sqrt(sum(x^2) sum(y^2)) of the centred values.

    Raw: without the logistic mapping that some papers fit first (`logistic_map`).
    """
    x, y = (values - values.mean() for values in checked_pair(scores, mos))
    x, y = x / np.abs(x).max(), y / np.abs(y).max()  # squares of tiny or huge values leave float64's range
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def correlate(scores: ArrayLike, mos: ArrayLike) -> tuple[float | None, float | None, str]:
    """SRCC and PLCC, or None twice and the reason."""
    try:
        return srcc(scores, mos), plcc(scores, mos), ""
    except ValueError as error:
        return None, None, str(error)


def krcc(scores: ArrayLike, mos: ArrayLike) -> float:
    """Kendall's rank correlation tau-b: (concordant - discordant pairs) / sqrt(pairs untied in x, and in y).

    Kendall (1945), The treatment of ties in ranking problems, Biometrika 33, 239-251.
    """
    return float(stats.kendalltau(*checked_pair(scores, mos)).statistic)


def rmse(scores: ArrayLike, mos: ArrayLike) -> float:
    """Root mean square error sqrt(mean((score - mos)^2)), in points of MOS."""
    scores, mos = checked_pair(scores, mos)
    return float(np.sqrt(np.mean((scores - mos) ** 2)))


def logistic_map(scores: ArrayLike, mos: ArrayLike) -> np.ndarray:
    """The scores, in points of MOS, after the field's four-parameter logistic, fitted by least squares.

    f(s) = b2 + (b1 - b2) / (1 + exp(-(s - b3) / |b4|)), which starts at b1 = max(mos), b2 = min(mos),
    b3 = mean(s), b4 = std(s) / 4. VQEG (2003), Final report on the validation of objective models of video
    quality assessment, phase II. It is fitted on the test images themselves, which flatters: PLCC and RMSE
    after it are labelled as mapped. A fit that does not converge is a ValueError, never a number.
    """
    scores, mos = checked_pair(scores, mos)
    if len(mos) < 5:
        raise ValueError(f"a four-parameter fit needs at least 5 images, got {len(mos)}")
    start = [mos.max(), mos.min(), scores.mean(), scores.std() / 4]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optimize.OptimizeWarning)  # of parameter errors, unused
            parameters, _ = optimize.curve_fit(_logistic, scores, mos, p0=start, maxfev=20_000)
    except RuntimeError as error:
        raise ValueError(f"the four-parameter logistic fit of {len(mos)} scores did not converge") from error
    mapped = _logistic(scores, *parameters)
    if not np.isfinite(mapped).all() or np.ptp(mapped) == 0:
        raise ValueError(f"the four-parameter logistic fit of {len(mos)} scores did not converge")
    return mapped


def _logistic(s: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
    slope = max(abs(b4), np.finfo(np.float64).tiny)
    return b2 + (b1 - b2) * 0.5 * (1 + np.tanh((s - b3) / (2 * slope)))  # 1 / (1 + exp(-z)), without overflow


# ---- the bootstrap over images -----------------------------------------------------------------------------


def bootstrap_correlations(
    scores: ArrayLike, mos: ArrayLike, draws: int = DRAWS, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """SRCC and PLCC of M sets of scores (M, n) in `draws` resamples of the n images: two arrays (M, draws).

    Every set sees the same images in a draw, so that differences of rows are paired. A draw in which a
    correlation does not exist (all its images have one score) is NaN. Efron (1979), Ann. Statist. 7, 1-26.
    """
    scores, mos = np.atleast_2d(np.asarray(scores, dtype=np.float64)), np.asarray(mos, dtype=np.float64)
    for row in scores:
        checked_pair(row, mos)
    values = [(row - row.mean()) / row.std() for row in (mos, *scores)]
    bounds = [_tie_bounds(row) for row in (mos, *scores)]
    chunks = [
        (
            _weighted_correlations(counts, [_centred_ranks(counts, *b) for b in bounds]),
            _weighted_correlations(counts, [v[:, None] - v @ counts / len(mos) for v in values]),
        )
        for counts in _image_counts(len(mos), draws, np.random.default_rng(seed))
    ]
    ranked, raw = (np.concatenate(parts, axis=1) for parts in zip(*chunks, strict=True))
    return ranked, raw


def _image_counts(images: int, draws: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each image is in each draw: arrays (images, draws of a chunk); columns sum to `images`."""
    for start in range(0, draws, _CHUNK):
        size = min(_CHUNK, draws - start)
        cells = generator.integers(images, size=(images, size)) * size + np.arange(size)
        yield np.bincount(cells.ravel(), minlength=images * size).reshape(images, size).astype(np.float64)


def _tie_bounds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sorting order, and for each value how many are smaller, and how many are smaller or the same."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    return order, np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")


def _centred_ranks(counts: np.ndarray, order: np.ndarray, below: np.ndarray, upto: np.ndarray) -> np.ndarray:
    """Twice (rank - mean rank) of every image in every draw (n, draws): exact average ranks, without a sort.

    With C[k] the draws of the k smallest values, tied values hold the ranks C[below] + 1 ... C[upto]. Their
    average is (C[below] + C[upto] + 1) / 2, and that of all ranks is (n + 1) / 2.
    """
    cumulative = np.zeros((len(order) + 1, counts.shape[1]))
    np.cumsum(counts[order], axis=0, out=cumulative[1:])
    return cumulative[below] + cumulative[upto] - len(order)


def _weighted_correlations(counts: np.ndarray, centred: Sequence[np.ndarray]) -> np.ndarray:
    """Correlation of the first variable with each other one, images weighted by their counts: (M, draws)."""
    mos, *scores = centred
    weighted_mos = counts * mos
    mos_power = np.einsum("nb,nb->b", weighted_mos, mos)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack(
            [
                np.einsum("nb,nb->b", weighted_mos, x) / np.sqrt(mos_power * np.einsum("nb,nb,nb->b", counts, x, x))
                for x in scores
            ]
        )


# ---- intervals ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """An estimate, its two-sided 95% interval, and the p-value of the hypothesis that it is 0."""

    estimate: float
    low: float
    high: float
    standard_error: float
    p_value: float
    seeds: int
    seed_deviation: float | None  # sample standard deviation over seeds; None for one seed
    undefined_draws: int  # left out: all images drawn had one score
    critical: float = Z  # standard errors from the estimate to an end: of the normal, or of Student's t


def image_interval(estimate: float, draws: np.ndarray) -> Interval:
    """The percentile bootstrap interval over images; the training seed is taken as given.

    The p-value inverts the interval: twice the smaller share of draws on either side of 0, counting one
    draw more. Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapters 13 and 15.
    """
    defined = draws[~np.isnan(draws)]
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    rarer_side = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    p_value = min(1.0, 2 * (rarer_side + 1) / (len(defined) + 1))
    return Interval(
        estimate,
        float(low),
        float(high),
        float(defined.std(ddof=1)),
        p_value,
        seeds=1,
        seed_deviation=None,
        undefined_draws=len(draws) - len(defined),
    )


def crossed_interval(estimates: ArrayLike, draws: np.ndarray) -> Interval:
    """The interval, over images and seeds, of the mean over S seeds; draws (S, B), the same images for all.

    The plain crossed bootstrap, which draws images and seeds at once, counts the noise of the images twice
    (Owen 2007, The pigeonhole bootstrap, Ann. Appl. Statist. 1, 386-411) and the spread between S seeds by
    (S - 1) / S too little. Here each is counted once, without bias: with C the covariance of the seeds' draws and s^2
    the variance of their estimates, which holds what the images give each seed for itself,

        variance = mean off-diagonal of C + s^2 / S          what the images give all seeds, and the rest
        interval = mean +- t(df) sqrt(variance),   df = (S - 1) (variance / (s^2 / S))^2 / 2, at least S - 1:

    half of Satterthwaite's (1946, Biometrics Bulletin 2, 110-114) degrees of freedom. With all of them a normal mean
    is covered in 92.4% at worst with three seeds, where neither part of the variance is small; with half of them in 94.5%
    to 95.5%, with five seeds in 95% to 96%, and with two in 90% at worst, whatever the parts.
    With one seed it is `image_interval`, and says nothing about other seeds.
    """
    estimates, draws = np.asarray(estimates, dtype=np.float64), np.atleast_2d(draws)
    seeds = len(estimates)
    if seeds == 1:
        return image_interval(float(estimates[0]), draws[0])
    between, image_noise, own_noise = seed_variances(estimates, draws)
    shared = max(0.0, image_noise - own_noise / seeds)
    mean, variance = float(estimates.mean()), shared + between / seeds
    freedom = max(1, DEGREES * (variance / (between / seeds)) ** 2) * (seeds - 1) if between > 0 else math.inf
    error = math.sqrt(variance)
    critical = float(stats.t.ppf((1 + LEVEL) / 2, freedom))
    p_value = float(2 * stats.t.sf(abs(mean) / error, freedom)) if error > 0 else float(mean == 0)
    undefined = int(np.isnan(draws).any(axis=0).sum())
    return Interval(
        mean,
        mean - critical * error,
        mean + critical * error,
        error,
        p_value,
        seeds=seeds,
        seed_deviation=math.sqrt(between),
        undefined_draws=undefined,
        critical=critical,
    )


def level_interval(correlations: ArrayLike, draws: np.ndarray) -> Interval:
    """`crossed_interval` of correlations themselves, cut to [-1, 1], beyond which there is nothing to cover."""
    interval = crossed_interval(correlations, draws)
    return replace(interval, low=max(-1.0, interval.low), high=min(1.0, interval.high))


def seed_variances(estimates: np.ndarray, draws: np.ndarray) -> tuple[float, float, float]:
    """Three variances: of the S seeds' estimates; of their mean, over the images drawn; and the part of the
    images' noise that each seed has for itself (mean diagonal less mean off-diagonal of the covariance).
    """
    covariance = np.cov(draws[:, ~np.isnan(draws).any(axis=0)])
    seeds = len(estimates)
    own_noise = (np.trace(covariance) - covariance.sum() / seeds) / (seeds - 1)
    return float(np.var(estimates, ddof=1)), float(covariance.mean()), float(own_noise)


def plain_crossed_percentiles(draws: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The textbook crossed bootstrap of the mean, for comparison: seeds resampled in every draw of images."""
    defined = draws[:, ~np.isnan(draws).any(axis=0)]
    seeds, count = defined.shape
    picks = np.random.default_rng(seed).integers(seeds, size=(seeds, count))
    low, high = np.quantile(np.take_along_axis(defined, picks, axis=0).mean(axis=0), [0.025, 0.975])
    return float(low), float(high)


# ---- tests and power ---------------------------------------------------------------------------------------


def steiger(r_jk: float, r_jh: float, r_kh: float, images: int) -> tuple[float, float]:
    """Z and two-sided p of Steiger's test that two Pearson correlations sharing variable j are the same.

    Z = (atanh r_jk - atanh r_jh) sqrt(n - 3) / sqrt(2 - 2 c), with r the mean of r_jk and r_jh and
    c = (r_kh (1 - 2 r^2) - r^2 (1 - 2 r^2 - r_kh^2) / 2) / (1 - r^2)^2. Steiger (1980), Tests for comparing
    elements of a correlation matrix, Psychological Bulletin 87, 245-251, equations 10 and 14.
    """
    if r_jk == r_jh:
        return 0.0, 1.0
    square = ((r_jk + r_jh) / 2) ** 2
    c = (r_kh * (1 - 2 * square) - square * (1 - 2 * square - r_kh**2) / 2) / (1 - square) ** 2
    spread = 2 - 2 * min(c, 1 - 1e-15)  # rounding can lift c to 1 where two models nearly agree
    fisher = [math.atanh(min(max(r, -1 + 1e-15), 1 - 1e-15)) for r in (r_jk, r_jh)]
    z = (fisher[0] - fisher[1]) * math.sqrt(max(images - 3, 0) / spread)
    return z, float(2 * stats.norm.sf(abs(z)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: at level alpha, the chance of any false claim is alpha.

    Holm (1979), A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6, 65-70.
    """
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def srcc_standard_error(r: float, images: int) -> float:
    """Large-sample standard error of one SRCC: (1 - r^2) sqrt((1 + r^2 / 2) / n).

    Bonett & Wright (2000), Sample size requirements for estimating Pearson, Kendall and Spearman
    correlations, Psychometrika 65, 23-28.
    """
    return (1 - r**2) * math.sqrt((1 + r**2 / 2) / images)


def difference_standard_error(r_jk: float, r_jh: float, r_kh: float, images: int) -> float:
    """Large-sample standard error of the difference r_jk - r_jh of two SRCCs with the same MOS j.

    The covariance of two dependent correlations (Pearson & Filon 1898; Steiger 1980, equations 3 and 4) with
    the ranks' inflation of the variance, 1 + r^2 / 2 (Bonett & Wright 2000), at the mean r of the two.
    """
    a, b = 1 - r_jk**2, 1 - r_jh**2
    both = a - r_jh**2
    covariance = r_kh * both - r_jk * r_jh * (both - r_kh**2) / 2
    inflation = 1 + ((r_jk + r_jh) / 2) ** 2 / 2
    return math.sqrt(max(0.0, (a**2 + b**2 - 2 * covariance) * inflation / images))


def resolvable_difference(standard_error: float, critical: float = Z) -> float:
    """The smallest true difference that one two-sided 5% test shows with 80% power: (1.960 + 0.842) errors.

    `critical` stands for 1.960 where Student's t tests it.
    """
    return standard_error * (critical + float(stats.norm.ppf(POWER)))


def images_needed(difference: float, standard_error: float, images: int) -> int:
    """Test images for which `difference` is resolvable, given the standard error with `images` of them."""
    return math.ceil(images * (resolvable_difference(standard_error) / difference) ** 2)


def seeds_needed(difference: float, estimates: ArrayLike, draws: np.ndarray) -> int | None:
    """Seeds needed for `difference` to be resolvable on these images; None where no number of seeds would do.

    The variance with S seeds is taken as (what the seeds share through the images) + s^2 / S, and S as large enough
    for the normal distribution.
    """
    estimates = np.asarray(estimates, dtype=np.float64)
    between, image_noise, own_noise = seed_variances(estimates, draws)
    shared = max(0.0, image_noise - own_noise / len(estimates))
    left = (difference / resolvable_difference(1.0)) ** 2 - shared
    return max(1, math.ceil(max(between, own_noise) / left)) if left > 0 else None

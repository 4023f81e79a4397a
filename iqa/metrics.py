"""Agreement of scores with mean opinion scores (MOS), and its bootstrap over images.

Everything is computed in float64. Input that is constant, not finite or of unequal length raises ValueError.
"""

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

DRAWS = 10_000  # default number of bootstrap resamples
_CHUNK = 32  # resamples at a time: 32 x 2,015 float64 fit a processor's cache


# ---- agreement ---------------------------------------------------------------------------------------------


def checked_pair(scores: ArrayLike, mos: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float64 vectors of one length; ValueError if they are not finite or constant."""
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
    """Spearman's rank correlation: Pearson's correlation of the ranks; ties get their average rank.

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


def srcc_and_plcc(scores: ArrayLike, mos: ArrayLike) -> tuple[float | None, float | None, str]:
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
    quality assessment, phase II. It is fitted on the test images themselves, which is optimistic, so PLCC
    and RMSE after it are labelled as mapped. A fit that does not converge raises ValueError.
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

    Every set has the same images in a resample, so that differences of rows are paired. A resample in which a
    correlation is undefined (all its images have one score) is NaN. Efron (1979), Ann. Statist. 7, 1-26.
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
    """Number of times that each image is in each resample: arrays (images, draws of a chunk)."""
    for start in range(0, draws, _CHUNK):
        size = min(_CHUNK, draws - start)
        cells = generator.integers(images, size=(images, size)) * size + np.arange(size)
        yield np.bincount(cells.ravel(), minlength=images * size).reshape(images, size).astype(np.float64)


def _tie_bounds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sorting order, and for each value the numbers of smaller and of smaller or equal values."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    return order, np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")


def _centred_ranks(counts: np.ndarray, order: np.ndarray, below: np.ndarray, upto: np.ndarray) -> np.ndarray:
    """Twice (rank - mean rank) of every image in every resample (n, draws): exact average ranks, without a sort.

    With C[k] the count of the k smallest values in a resample, tied values have the ranks C[below] + 1 ... C[upto].
    Their average is (C[below] + C[upto] + 1) / 2, and that of all ranks is (n + 1) / 2.
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

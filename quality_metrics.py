"""How well scores agree with mean opinion scores, and how certain that is: numpy in, plain numbers out.

Everything is computed in float64. Constant, non-finite or unequal input is a ValueError: a correlation that does
not exist never passes for a number.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


def checked_pair(scores: ArrayLike, mos: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 vectors of one length, finite and not constant, or a ValueError that says what is wrong."""
    pair = {name: np.asarray(v, dtype=np.float64) for name, v in (("scores", scores), ("mos", mos))}
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
            raise ValueError(f"{name}: all {len(values)} values are {values[0]:g}; a constant has no correlation")
    return pair["scores"], pair["mos"]


def srcc(scores: ArrayLike, mos: ArrayLike) -> float:
    """Spearman's rank correlation: Pearson's, of the ranks; ties get their average rank. In [-1, 1].

    Spearman (1904), The proof and measurement of association between two things, Am. J. Psychol. 15, 72-101.
    """
    scores, mos = checked_pair(scores, mos)
    return plcc(stats.rankdata(scores), stats.rankdata(mos))


def plcc(scores: ArrayLike, mos: ArrayLike) -> float:
    """Pearson's linear correlation, sum(x y) / sqrt(sum(x^2) sum(y^2)) of the centred values. In [-1, 1].

    Raw: without the logistic mapping that some papers fit first.
    """
    x, y = (values - values.mean() for values in checked_pair(scores, mos))
    x, y = x / np.abs(x).max(), y / np.abs(y).max()  # the squares of tiny or huge values leave float64's range
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))

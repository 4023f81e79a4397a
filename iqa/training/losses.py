"""Training losses: scores [N] and MOS [N] of a batch -> a scalar. docs/recipe.md has the formulas.

The losses in BATCH_LOSSES depend only on the order or the linear relation of a batch, not on the scale of its scores.
A batch whose MOS are all equal, such as one image, has a defined loss and no gradient. Scores that are all equal have a
defined loss and a finite gradient.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from iqa.training.distributed import of_whole_batch
from iqa.training.recipe import BATCH_LOSSES

HUBER_DELTA = 0.5  # training deviations: larger errors count by their size, smaller ones by their square
RANK_MARGIN = 0.1  # training deviations, as far as a model's first scores spread
# Lower bound of the norm by which a batch's deviations from their mean are divided. Without it, the gradient of scores
# that are all equal would be undefined or unbounded.
LEAST_NORM = 1e-3


def huber(scores: Tensor, mos: Tensor, *, delta: float = HUBER_DELTA) -> Tensor:
    """Quadratic for errors up to `delta`, linear beyond.

    Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35, 1964.
    """
    return F.huber_loss(scores, mos, delta=delta)


def norm_in_norm(scores: Tensor, mos: Tensor, *, p: float = 1.0, q: float = 2.0) -> Tensor:
    """p-norm, to the power p, of the difference between scores and MOS, each centred and divided by its q-norm; 0 to 1.

    Li, Jiang, Jiang, "Norm-in-Norm Loss with Faster Convergence and Better Performance for Image Quality Assessment",
    ACM MM 2020, with the p and q recommended for KonIQ-10k. 0 for MOS that are all equal.
    """
    difference = normalised(scores, q) - normalised(mos, q)
    largest = 2 ** max(p, p / q) * len(mos) ** max(0.0, 1 - p / q)
    return difference.abs().pow(p).sum() / largest * differ(mos)


def plcc(scores: Tensor, mos: Tensor) -> Tensor:
    """(1 - r) / 2 with Pearson's correlation r; 0 to 1.

    The linearity-induced loss of Li, Jiang, Jiang, "Unified Quality Assessment of In-the-Wild Videos with Mixed
    Datasets Training", IJCV 129, 2021. 1/2, as for r = 0, for MOS that are all equal.
    """
    r = F.cosine_similarity(scores - scores.mean(), mos - mos.mean(), dim=0, eps=LEAST_NORM)
    return (1 - r * differ(mos)) / 2


def rank(scores: Tensor, mos: Tensor, *, margin: float = RANK_MARGIN) -> Tensor:
    """Mean of max(0, margin - (score of the better - score of the worse)) over all pairs with unequal MOS.

    Liu, van de Weijer, Bagdanov, "RankIQA: Learning from Rankings for No-reference Image Quality Assessment", ICCV
    2017, on every pair of the batch. 0 for MOS that are all equal.
    """
    better = (mos[:, None] > mos).to(scores.dtype)  # [N, N]
    missing = F.relu(margin - (scores[:, None] - scores))
    return (better * missing).sum() / better.sum().clamp(min=1)


def normalised(values: Tensor, q: float) -> Tensor:
    return F.normalize(values - values.mean(), p=q, dim=0, eps=LEAST_NORM)


def differ(mos: Tensor) -> Tensor:
    """1 if the MOS differ, else 0."""
    return (mos.max() > mos.min()).to(mos.dtype)


def training_loss(name: str, mos_deviation: float) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss other than L1, of scores [B] and MOS [B]; with several processes, of the whole batch.

    Args:
        name: value of --loss. The unit of "huber" is a training deviation; the others have no unit.
        mos_deviation: standard deviation of the training MOS.
    """
    function = {"huber": huber, "norm_in_norm": norm_in_norm, "plcc": plcc, "rank": rank}[name]
    whole = of_whole_batch if name in BATCH_LOSSES else lambda values: values
    return lambda scores, mos: function(whole(scores / mos_deviation), whole(mos / mos_deviation))

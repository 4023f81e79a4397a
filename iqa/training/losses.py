"""What a training step makes small: scores [N] and MOS [N] of a batch -> a scalar. docs/recipe.md compares them.

The losses of a batch know its order or its linear relation alone, and no scale. Where the MOS of a batch are all alike,
as in a batch of one image, there is nothing of the kind to learn: such a batch has a defined loss and no gradient. Scores
that are all alike have a loss and a finite gradient.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from iqa.training.distributed import of_whole_batch
from iqa.training.recipe import BATCH_LOSSES

HUBER_DELTA = 0.5  # training deviations: larger errors count by their size, smaller ones by their square
RANK_MARGIN = 0.1  # training deviations, as far as a model's first scores spread
# Of the norm of a batch's deviations from their mean: what is smaller is divided by this instead. Scores that are all alike
# would have no gradient, or one without bounds.
LEAST_NORM = 1e-3


def huber(scores: Tensor, mos: Tensor, *, delta: float = HUBER_DELTA) -> Tensor:
    """Quadratic for errors up to `delta`, linear beyond.

    Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35, 1964.
    """
    return F.huber_loss(scores, mos, delta=delta)


def norm_in_norm(scores: Tensor, mos: Tensor, *, p: float = 1.0, q: float = 2.0) -> Tensor:
    """The p-norm, to the power p, of the difference between scores and MOS, each centred and divided by its q-norm; 0 to 1.

    Li, Jiang, Jiang, "Norm-in-Norm Loss with Faster Convergence and Better Performance for Image Quality Assessment", ACM
    MM 2020, with the p and q that it recommends for KonIQ-10k. 0 for MOS that are all alike.
    """
    difference = normalised(scores, q) - normalised(mos, q)
    largest = 2 ** max(p, p / q) * len(mos) ** max(0.0, 1 - p / q)
    return difference.abs().pow(p).sum() / largest * differ(mos)


def plcc(scores: Tensor, mos: Tensor) -> Tensor:
    """(1 - r) / 2 with Pearson's correlation r; 0 to 1.

    The linearity-induced loss of Li, Jiang, Jiang, "Unified Quality Assessment of In-the-Wild Videos with Mixed Datasets
    Training", IJCV 129, 2021. 1/2, as for r = 0, for MOS that are all alike.
    """
    r = F.cosine_similarity(scores - scores.mean(), mos - mos.mean(), dim=0, eps=LEAST_NORM)
    return (1 - r * differ(mos)) / 2


def rank(scores: Tensor, mos: Tensor, *, margin: float = RANK_MARGIN) -> Tensor:
    """The mean over all pairs of the batch with unequal MOS of max(0, margin - (score of the better - that of the worse)).

    Liu, van de Weijer, Bagdanov, "RankIQA: Learning from Rankings for No-reference Image Quality Assessment", ICCV 2017:
    every pair of the batch, each patch going through the network once. 0 for MOS that are all alike.
    """
    better = (mos[:, None] > mos).to(scores.dtype)  # [N, N]
    missing = F.relu(margin - (scores[:, None] - scores))
    return (better * missing).sum() / better.sum().clamp(min=1)


def normalised(values: Tensor, q: float) -> Tensor:
    return F.normalize(values - values.mean(), p=q, dim=0, eps=LEAST_NORM)


def differ(mos: Tensor) -> Tensor:
    """1 where not all MOS are alike, else 0."""
    return (mos.max() > mos.min()).to(mos.dtype)


def training_loss(name: str, mos_deviation: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of a training step, of scores [B] and MOS [B]; with several processes, of the whole batch.

    Args:
        name: of --loss. The unit of "l1" is a point of MOS; "huber" is of errors in training deviations, the others have none.
        mos_deviation: of the training MOS.
    """
    if name == "l1":
        return F.l1_loss
    function = {"huber": huber, "norm_in_norm": norm_in_norm, "plcc": plcc, "rank": rank}[name]
    whole = of_whole_batch if name in BATCH_LOSSES else lambda values: values
    return lambda scores, mos: function(whole(scores / mos_deviation), whole(mos / mos_deviation))

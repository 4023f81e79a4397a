"""The model that is evaluated and kept: the trained weights or their moving average, on the MOS scale."""

import copy
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from iqa.models.folding import fold_batch_norms
from iqa.models.patch_scores import PatchScores
from iqa.training.devices import compile_for_one_size

LINE_IMAGES = 256  # most training images for the linear map and for the training error in points of MOS
LEAST_SPREAD = 1e-4  # least spread of scores, in deviations of the MOS; a smaller one is rounding
LEAST_CORRELATION = 0.01  # for the linear map of a model whose scores do not increase with the MOS yet


class EvalModeCopy:
    """A copy of the trained model for evaluation, with batch norms folded into the convolutions and without dropout.

    Args:
        model: in training.
        ema: decay of the moving average of weights and batch norm statistics; 0: no average. After n steps it is at
            most (1 + n) / (10 + n), so that the average of a short run does not contain its start.
    """

    def __init__(self, model: nn.Module, *, ema: float):
        self.model, self.ema = model, ema
        self.average = copy.deepcopy(model) if ema else model
        self.folded = fold_batch_norms(model)  # a copy without dropout, its batch norms in the convolutions
        self.line: dict[str, Tensor] = {}  # the entries that put the scores on the MOS scale, if the loss does not
        self.steps = 0
        self.compiled = None  # its compiled call, if it is compiled

    def __call__(self, images: Tensor) -> PatchScores:
        """[B, 3, H, W] -> the output of the folded model for each patch."""
        return (self.compiled or self.folded.describe)(images)

    def compile(self) -> None:
        self.compiled = compile_for_one_size(self.folded.describe)

    def after_step(self) -> None:
        """Update the average after a training step, without waiting for the device."""
        if self.ema:
            decay = min(self.ema, (1 + self.steps) / (10 + self.steps))
            get_ema_multi_avg_fn(decay)(numbers_of(self.average), numbers_of(self.model), None)
            self.steps += 1

    def refresh(self) -> None:
        """Copy the weights into the folded model after an epoch, in place, since it may be compiled."""
        self.line = {}
        self.folded.load_state_dict(fold_batch_norms(self.average).state_dict())

    def calibrate(self, scores: np.ndarray, mos: np.ndarray, *, fit: bool) -> float | None:
        """The mean error of some training images in points of MOS; with `fit`, the scores are put on that scale first.

        For scores that are not all finite the result is None, and the scale is not changed.

        Args:
            scores: [N], from `folded` after `refresh`.
            mos: [N].
            fit: map all scores by the line that fits these to the MOS.
        """
        if not np.isfinite(scores).all():
            return None
        if fit:
            slope, intercept = fit_line(scores, mos)
            self.line = self.average.rescaled(slope, intercept)
            self.folded.load_state_dict(self.line, strict=False)
            scores = intercept + slope * scores
        return float(np.abs(scores - mos).mean())

    def weights(self) -> dict[str, Tensor]:
        """The state dict of the model that is scored."""
        return self.average.state_dict() | self.line

    def state(self) -> dict[str, Any]:
        """The entries of a checkpoint that a resume needs besides `weights()`."""
        if not (self.ema or self.line):
            return {}
        return {
            "training": {"model": self.model.state_dict(), "average": self.average.state_dict(), "steps": self.steps}
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Restore the state from a checkpoint; the model has its weights already."""
        if "training" not in saved:
            return
        self.average.load_state_dict(saved["training"]["average"])
        self.steps = saved["training"]["steps"]
        scale = self.average.rescaled(1.0, 0.0)
        self.line = {name: saved["model"][name].to(x.device) for name, x in scale.items()}


def numbers_of(model: nn.Module) -> list[Tensor]:
    """Parameters and statistics, without the counts of batches."""
    return [x for x in (*model.parameters(), *model.buffers()) if x.is_floating_point()]


def fit_line(scores: np.ndarray, mos: np.ndarray) -> tuple[float, float]:
    """Slope and intercept by least squares, from scores [N] to MOS [N].

    The slope is positive: at least that of a correlation of LEAST_CORRELATION, and 1 for scores that are all equal.
    """
    slope = 1.0
    if scores.std() > LEAST_SPREAD * mos.std():
        correlation = np.mean((scores - scores.mean()) * (mos - mos.mean())) / (scores.std() * mos.std())
        slope = float(max(correlation, LEAST_CORRELATION) * mos.std() / scores.std())
    return slope, float(mos.mean() - slope * scores.mean())


def sample_indices(count: int) -> np.ndarray:
    """Sorted indices of at most LINE_IMAGES of `count` images, the same in every run."""
    return np.sort(np.random.default_rng(0).permutation(count)[:LINE_IMAGES])

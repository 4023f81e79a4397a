"""The output of all models."""

from typing import NamedTuple

from torch import Tensor


class PatchScores(NamedTuple):
    """Scores of B patches, their attention weights and hidden activations."""

    scores: Tensor  # [B] fp32, on the MOS scale
    attention: Tensor | None  # [B, 4] weights of stages 1-4, sum 1; None: the model has no attention
    hidden: list[Tensor]  # activations [B, units] in 0-1 of each hidden layer of the target network

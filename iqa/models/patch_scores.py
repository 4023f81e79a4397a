"""What every model says of patches, whichever it is."""

from typing import NamedTuple

from torch import Tensor


class PatchScores(NamedTuple):
    """Of B patches."""

    scores: Tensor  # [B] fp32, on the MOS scale
    attention: Tensor | None  # [B, 4] weights of stages 1-4 that sum to 1, where the model has attention
    hidden: list[Tensor]  # [B, units] in 0-1 of each hidden layer of the target network

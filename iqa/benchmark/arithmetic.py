"""The number of operations per patch, and the peak rate of the machine.

A multiplication and an addition are two operations (FLOP). Only matrix products and convolutions are counted, which
are 99% of the work.
"""

import copy
import time
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from iqa.models.flop import counted_flop
from iqa.training.precision import wait_for

COUNTED_BATCH = 2  # patches: batch norm needs more than one value where the last map is 1x1
SIDES = {"cpu": (512, 1024, 2048, 4096), "cuda": (4096, 8192, 16384)}  # sides of the multiplied square matrices


class Flop(NamedTuple):
    """Number of operations per patch."""

    training: int  # forward and backward, without the optimizer
    evaluation: int  # forward; batch norms are not counted


def flop_per_patch(model: nn.Module, patch_size: int) -> Flop:
    """Count on fake tensors, which have shapes but no values; the model is not changed.

    Args:
        model: [B, 3, P, P] -> [B], on the CPU.
    """
    model = copy.deepcopy(model)
    with FakeTensorMode(allow_non_fake_inputs=True):
        inputs = torch.empty(COUNTED_BATCH, 3, patch_size, patch_size)
        with counted_flop() as training:
            F.l1_loss(model.train()(inputs), torch.empty(COUNTED_BATCH)).backward()
        with counted_flop() as evaluation, torch.no_grad():
            model.eval()(inputs)
    return Flop(*(counter.get_total_flops() // COUNTED_BATCH for counter in (training, evaluation)))


class MatrixProduct:
    """The peak rate of matrix products in the precision of a run, an upper limit for every step.

    The fastest of several sizes is selected once; `rate` measures it again.

    Args:
        seconds: approximate time of a measurement; sizes whose product takes longer are skipped.
    """

    def __init__(self, device: torch.device, precision: str, seconds: float):
        self.device, self.seconds = device, seconds
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        rates = {}
        for side in SIDES[device.type]:
            rates[side] = self.rate(side)
            if 2 * side**3 / rates[side] > seconds:
                break
        self.side = max(rates, key=rates.get)

    def rate(self, side: int | None = None) -> float:
        """FLOP/s."""
        side = side or self.side
        a, b, c = (torch.rand(side, side, dtype=self.dtype, device=self.device) for _ in range(3))

        def seconds_of(count: int) -> float:
            wait_for(self.device)
            start = time.perf_counter()
            for _ in range(count):
                torch.mm(a, b, out=c)
            wait_for(self.device)
            return time.perf_counter() - start

        seconds_of(1)  # allocates memory and loads the library
        count = max(1, round(self.seconds / seconds_of(1)))
        return 2 * side**3 * count / seconds_of(count)

"""The arithmetic of a patch, and the most that the machine can do of it in a second.

A multiplication and an addition are two operations (FLOP), in the counts as in the machine's rate. Counted are matrix
products and convolutions, which are all but a hundredth of the work.
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
SIDES = {"cpu": (512, 1024, 2048, 4096), "cuda": (4096, 8192, 16384)}  # of the square matrices that are multiplied


class Flop(NamedTuple):
    """The arithmetic of one patch."""

    training: int  # forward and backward; the optimizer's, a few operations per parameter and step, aside
    evaluation: int  # forward; a batch norm, folded or not, counts nothing


def flop_per_patch(model: nn.Module, patch_size: int) -> Flop:
    """Counted on fake tensors, which have shapes and no values: nothing is computed, and the model stays as it is.

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
    """The machine's own largest matrix product in the precision of a run: the limit of every step.

    The fastest of several sizes is selected once; `rate` times it again, beside what is compared with it.

    Args:
        seconds: of a measurement, about; sizes of which one product takes longer are left out.
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

        seconds_of(1)  # touches the pages, loads the library
        count = max(1, round(self.seconds / seconds_of(1)))
        return 2 * side**3 * count / seconds_of(count)

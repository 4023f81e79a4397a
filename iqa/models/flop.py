"""The number of operations of a model.

A multiplication and an addition are two operations (FLOP). Only matrix products and convolutions are counted, which
are 99% of the work.
"""

import contextlib
import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

COUNTED_BATCH = 2  # patches: batch norm needs more than one value where the last map is 1x1


@contextlib.contextmanager
def counted_flop() -> Iterator[FlopCounterMode]:
    """A context that counts the operations of matrix products and convolutions: `get_total_flops()`.

    Attention is computed by matrix products. Its fused kernels differ between devices, and not all of them are counted.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


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

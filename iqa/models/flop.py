"""Counting the arithmetic of a model."""

import contextlib
from collections.abc import Iterator

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@contextlib.contextmanager
def counted_flop() -> Iterator[FlopCounterMode]:
    """A context that counts the operations of matrix products and convolutions: `get_total_flops()`.

    Attention is computed by matrix products. Its fused kernels differ between devices, and not all of them are counted.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter

"""Constants, found from one batch, that bring feature maps of any scale to one."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """A map [B, C, H, W] minus its channels' means, over one deviation for all of them.

    No batch norm: training and evaluation see the same function, the patches of a batch do not depend on each other,
    and an image with weaker features keeps them. One deviation for the map, not one for each channel, leaves a channel
    small that is silent in the first batch. Without a measurement it is the identity.

    Args:
        variance: of the result, averaged over its channels.
    """

    def __init__(self, channels: int, *, variance: float = 1.0):
        super().__init__()
        self.variance = variance
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("factor", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return ((x.float() - self.mean[:, None, None]) * self.factor).to(x.dtype)

    @torch.no_grad()
    def measure(self, x: Tensor) -> None:
        """Find the constants from [B, C, H, W]; of maps that do not vary they are left as they are."""
        x = x.double()
        variance = x.var((0, 2, 3), correction=0).mean()
        if variance > 0:
            self.mean.copy_(x.mean((0, 2, 3)))
            self.factor.copy_((self.variance / variance).sqrt())


@contextlib.contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """Within it every `Standardise` takes its constants from what it is given, as the model trains, without dropout.

    Batch norms that have seen no batch yet keep the statistics of this one; those with statistics are left alone.
    """
    training = {module: module.training for module in model.modules()}
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = {norm: norm.momentum for norm in norms}
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs: module.measure(inputs[0]))
        for module in model.modules()
        if isinstance(module, Standardise)
    ]
    model.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 0.0 if norm.running_mean.any() else 1.0
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for module, mode in training.items():
            module.training = mode

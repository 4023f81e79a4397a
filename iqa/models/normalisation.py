"""Normalisation of feature maps: constants that are measured on one batch, and batch norms in evaluation."""

import contextlib
import copy
import itertools
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


class Standardise(nn.Module):
    """Subtract the channels' means from a map [B, C, H, W] and divide it by one deviation for all channels.

    Unlike batch norm, it is the same function in training and evaluation, the patches of a batch do not depend on each
    other, and an image with weaker features keeps weaker features. With one deviation per channel, a channel that is
    almost constant in the first batch would be amplified. Before `measure` it is the identity.

    Args:
        variance: mean variance of the channels of the result.
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
        """Set the constants from [B, C, H, W]; a constant map does not change them."""
        x = x.double()
        variance = x.var((0, 2, 3), correction=0).mean()
        if variance > 0:
            self.mean.copy_(x.mean((0, 2, 3)))
            self.factor.copy_((self.variance / variance).sqrt())


@contextlib.contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """Context in which a forward pass sets the constants of every `Standardise`, with batch norms in training mode.

    Dropout is off. Batch norms without statistics keep those of this pass; all others keep their own.
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


def fold_batch_norms(model: Model) -> Model:
    """Copy a model for evaluation and fold each batch norm into the convolution before it; scores change by rounding.

    Neighbouring layers of a module are assumed to be applied one after the other. A module with `keeps_batch_norms` is
    left as it is: a model of timm may use another order, and its batch norms may contain an activation.
    """
    folded = copy.deepcopy(model).eval()
    kept = {layer for module in folded.modules() if hasattr(module, "keeps_batch_norms") for layer in module.modules()}
    for parent in [module for module in folded.modules() if module not in kept]:
        for (name, layer), (norm_name, norm) in itertools.pairwise(list(parent.named_children())):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm):
                setattr(parent, name, nn.utils.fuse_conv_bn_eval(layer, norm))
                setattr(parent, norm_name, nn.Identity())
    return folded

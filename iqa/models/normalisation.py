"""Normalisation of feature maps: constants that are measured on one batch, and batch norms in evaluation."""

import copy
import itertools
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


def set_constants(model: nn.Module, images: Tensor) -> Tensor:
    """Set the constants of every `Standardise` of a model from patches [B, 3, H, W], and return their scores [B].

    Dropout is off, and batch norms are in training mode. Those without statistics get the statistics of this pass; all
    others keep their own.
    """
    copied = copy.deepcopy(model).eval()
    for module in copied.modules():
        if isinstance(module, Standardise):
            module.register_forward_pre_hook(lambda module, inputs: module.measure(inputs[0]))
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
            module.momentum = 0.0 if module.running_mean.any() else 1.0
    scores = copied(images)
    model.load_state_dict(copied.state_dict())
    return scores


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

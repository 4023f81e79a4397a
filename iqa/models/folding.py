"""Batch norms in evaluation."""

import copy
import itertools
from typing import TypeVar

from torch import nn

Model = TypeVar("Model", bound=nn.Module)


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

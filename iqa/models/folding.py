"""A model for evaluation alone."""

import copy
import itertools
from typing import TypeVar

from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def fold_batch_norms(model: Model) -> Model:
    """A copy for evaluation, each batch norm folded into the convolution before it: equal scores but for rounding.

    Layers that are next to each other in a module are applied one after the other. Where that is not known, as in models of
    timm, whose batch norms may also hold an activation, a module has `keeps_batch_norms`.
    """
    folded = copy.deepcopy(model).eval()
    kept = {layer for module in folded.modules() if hasattr(module, "keeps_batch_norms") for layer in module.modules()}
    for parent in [module for module in folded.modules() if module not in kept]:
        for (name, layer), (norm_name, norm) in itertools.pairwise(list(parent.named_children())):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm):
                setattr(parent, name, nn.utils.fuse_conv_bn_eval(layer, norm))
                setattr(parent, norm_name, nn.Identity())
    return folded

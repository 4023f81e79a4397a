"""The table of backbones: how each is built, the channels of its four maps, and where its ImageNet weights are.

A backbone is a module that takes [B, 3, H, W] to four maps, at strides 4, 8, 16 and 32, each pooled to 7x7 by
`iqa.models.pooling.pool_to_grid`. Its `own_name(key)` says what an entry of a weights file is called in its own state
dict, and None for one that it does without, such as the classifier's.

This file does without torch, so that flags can be checked before it is loaded.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Backbone(NamedTuple):
    """One row: a further backbone is a further row."""

    title: str  # in tables
    build: Callable[[], Any]  # the module, with random weights; imports what it needs only now
    channels: tuple[int, int, int, int]  # of the maps at strides 4, 8, 16, 32
    imagenet: Callable[[], tuple[str, Callable[[], dict]]]  # where its weights lie, and how their state dict is read
    log_name: str  # of its runs: exp -> exp1_baseline, exp2_multiscale, exp3_multiscale_attention
    tag: str = ""  # before ss_noatt, ms_noatt, ms_att in the names of checkpoints


def build_resnet50():
    from iqa.models.resnet import ResNet50

    return ResNet50()


def resnet50_on_imagenet():
    from torchvision.models import ResNet50_Weights

    return of_torchvision(ResNet50_Weights.IMAGENET1K_V1)


def of_torchvision(entry) -> tuple[str, Callable[[], dict]]:
    """A row of torchvision's weights: where it is kept once it was downloaded, and how it is read."""
    import torch

    path = f"{torch.hub.get_dir()}/checkpoints/{entry.url.rsplit('/', 1)[-1]}"
    return path, lambda: entry.get_state_dict(progress=True, check_hash=True)


BACKBONES = {
    "resnet50": Backbone("ResNet50", build_resnet50, (256, 512, 1024, 2048), resnet50_on_imagenet, "exp"),
}

"""The table of backbones: how each is built, the channels of its four maps, and where its ImageNet weights are.

A backbone is a module that takes [B, 3, H, W] to four maps, at strides 4, 8, 16 and 32, each pooled to 7x7 by
`iqa.models.pooling.pool_to_grid`. Its `own_name(key)` says what an entry of a weights file is called in its own state
dict, and None for one that it does without, such as the classifier's; where it takes all names to know one, its
`own_names(keys)` has them together instead.

This file does without torch, so that flags can be checked before it is loaded.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

SWIN_DROP_PATH = 0.3  # SMART-IQA's, for fine-tuning; torchvision's 0.5 is for 300 epochs from a random start


class Backbone(NamedTuple):
    """One row: a further backbone is a further row."""

    title: str  # in tables
    build: Callable[..., Any]  # the module, with random weights; imports what it needs only now
    channels: tuple[int, int, int, int]  # of the maps at strides 4, 8, 16, 32
    imagenet: Callable[[], tuple[str, Callable[[], dict]]]  # where its weights lie, and how their state dict is read
    log_name: str  # of its runs: exp -> exp1_baseline, exp2_multiscale, exp3_multiscale_attention
    tag: str = ""  # before ss_noatt, ms_noatt, ms_att in the names of checkpoints
    patch_multiple: int = 1  # the patch sizes that it takes are multiples of this
    drop_path_rate: float | None = None  # what `build` takes by default; None for a network without stochastic depth


def build_resnet18():
    from iqa.models.resnet import ResNet

    return ResNet("resnet18")


def resnet18_on_imagenet():
    from torchvision.models import ResNet18_Weights

    return of_torchvision(ResNet18_Weights.IMAGENET1K_V1)


def build_resnet50():
    from iqa.models.resnet import ResNet

    return ResNet("resnet50")


def resnet50_on_imagenet():
    from torchvision.models import ResNet50_Weights

    return of_torchvision(ResNet50_Weights.IMAGENET1K_V1)


def build_swin_b(*, drop_path_rate: float = SWIN_DROP_PATH):
    from iqa.models.swin import SwinB

    return SwinB(drop_path_rate=drop_path_rate)


def swin_b_on_imagenet():
    from torchvision.models import Swin_B_Weights

    return of_torchvision(Swin_B_Weights.IMAGENET1K_V1)


def of_torchvision(entry) -> tuple[str, Callable[[], dict]]:
    """A row of torchvision's weights: where it is kept once it was downloaded, and how it is read."""
    import torch

    path = f"{torch.hub.get_dir()}/checkpoints/{entry.url.rsplit('/', 1)[-1]}"
    return path, lambda: entry.get_state_dict(progress=True, check_hash=True)


BACKBONES = {
    "resnet50": Backbone("ResNet50", build_resnet50, (256, 512, 1024, 2048), resnet50_on_imagenet, "exp"),
    "swin_b": Backbone(
        "Swin-B",
        build_swin_b,
        (128, 256, 512, 1024),
        swin_b_on_imagenet,
        "swin",
        "swin_b_",
        patch_multiple=32,
        drop_path_rate=SWIN_DROP_PATH,
    ),
    "resnet18": Backbone(
        "ResNet18", build_resnet18, (64, 128, 256, 512), resnet18_on_imagenet, "resnet18_", "resnet18_"
    ),
}


def patch_size_problem(title: str, multiple: int, patch_size: int) -> str | None:
    """What is wrong with the patch size for a network that takes multiples alone, None where nothing is."""
    if patch_size % multiple == 0:
        return None
    nearest = max(1, round(patch_size / multiple)) * multiple
    return f"--patch_size {patch_size}: {title} takes multiples of {multiple}; choose {nearest}, or 224 as its weights know"

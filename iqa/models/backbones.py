"""The table of backbones, and the names of all that --backbone accepts. Importing it loads neither torch nor timm.

A backbone is a module that maps [B, 3, H, W], normalised for ImageNet, and a function to four maps, each passed through
the function, such as `iqa.models.pooling.pool_to_grid`. It has
- `channels`: the channels of the four maps;
- `own_names(keys)`: a dictionary from the names of entries in a weights file to those in its own state dict, without
  entries that are not needed, such as the classifier's.

A row of the table is a backbone. Any other is a model of timm (iqa/models/timm_backbone.py), named timm:NAME.
"""

import difflib
import functools
import importlib.util
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

TIMM = "timm:"
STRIDE = 32  # of the last stage of ResNet50, also the smallest patch size
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the images that a backbone takes
SWIN_DROP_PATH = 0.3  # SMART-IQA's, for fine-tuning; torchvision's 0.5 is for 300 epochs from random weights
CNN, TRANSFORMER, OTHER = "CNN", "Transformer", "other"


class Backbone(NamedTuple):
    """One row."""

    title: str  # in tables
    build: Callable[..., Any]  # builds the module with random weights and imports its packages
    log_name: str  # prefix of log names: exp -> exp1_baseline, exp2_multiscale, exp3_multiscale_attention
    tag: str = ""  # prefix of ss_noatt, ms_noatt and ms_att in the names of checkpoints
    kind: str = CNN
    patch_multiple: int = 1  # patch sizes are multiples of this
    drop_path_rate: float | None = None  # default of `build`; None: no stochastic depth


def build_resnet(name: str):
    from iqa.models.resnet import ResNet

    return ResNet(name)


def build_swin_b(*, drop_path_rate: float = SWIN_DROP_PATH):
    from iqa.models.swin import SwinB

    return SwinB(drop_path_rate=drop_path_rate)


def build_timm(name: str, **options):
    from iqa.models.timm_backbone import TimmBackbone

    return TimmBackbone(name, **options)


# The keys are torchvision's names of models, whose ImageNet-1k V1 weights are --weights imagenet.
BACKBONES = {
    "resnet50": Backbone("ResNet50", functools.partial(build_resnet, "resnet50"), "exp"),
    "resnet18": Backbone("ResNet18", functools.partial(build_resnet, "resnet18"), "resnet18_", "resnet18_"),
    "resnet34": Backbone("ResNet34", functools.partial(build_resnet, "resnet34"), "resnet34_", "resnet34_"),
    "resnet101": Backbone("ResNet101", functools.partial(build_resnet, "resnet101"), "resnet101_", "resnet101_"),
    "swin_b": Backbone(
        "Swin-B", build_swin_b, "swin", "swin_b_", TRANSFORMER, patch_multiple=32, drop_path_rate=SWIN_DROP_PATH
    ),
}

# The kinds of timm's model families, which are the modules of timm.models; all others are OTHER.
TIMM_KINDS = {
    CNN: """byobnet convmixer convnext cspnet cspnext densenet dla dpn efficientnet fasternet ghostnet hardcorenas
        hgnet hrnet inception_next inception_resnet_v2 inception_v3 inception_v4 lcnetv2 mobilenetv3 nasnet nfnet
        pnasnet rdnet regnet repghost repvit res2net resnest resnet resnetv2 rexnet selecsls senet sknet starnet tresnet
        vgg vovnet xception xception_aligned""".split(),
    TRANSFORMER: """beit cait convit crossvit davit deepseek_vit deit eva gcvit gemma4_vit hiera hieradet_sam2 mvitv2
        naflexvit nest pit pvt_v2 qwen3_vit swin_transformer swin_transformer_v2 swin_transformer_v2_cr tnt twins
        vision_transformer vision_transformer_relpos vision_transformer_sam volo xcit""".split(),
}


def find_backbone(name: str) -> Backbone:
    """The row of the table, or a row for `timm:NAME`, which timm may lack; ValueError for any other name."""
    if name.startswith(TIMM):
        model = name.removeprefix(TIMM)
        prefix = re.sub(r"\W", "-", f"timm_{model}_", flags=re.ASCII)
        return Backbone(name, functools.partial(build_timm, model), prefix, prefix, OTHER)
    if name not in BACKBONES:
        choices = f"choose {', '.join(BACKBONES)} or timm:NAME"
        raise ValueError(f"--backbone {name}: {choices}{did_you_mean(name, BACKBONES)}")
    return BACKBONES[name]


def backbone_problem(name: str, *, patch_size: int = 224, drop_path_rate: float | None = None) -> str | None:
    """The error of these flags in one line, or None. timm is loaded for `timm:NAME` only."""
    try:
        row = find_backbone(name)
    except ValueError as error:
        return str(error)
    if name.startswith(TIMM):
        if importlib.util.find_spec("timm") is None:
            return f"--backbone {name}: it needs the package timm: python3 -m pip install timm"
        from iqa.models.timm_backbone import model_problem

        return model_problem(name.removeprefix(TIMM), patch_size=patch_size, drop_path_rate=drop_path_rate)
    if drop_path_rate is not None and row.drop_path_rate is None:
        return f"--drop_path_rate: {row.title} has no stochastic depth; leave it out, or choose another --backbone"
    return patch_size_problem(row.title, row.patch_multiple, patch_size)


def patch_size_problem(title: str, multiple: int, patch_size: int) -> str | None:
    """The error of a patch size for a network that takes multiples of a number, or None."""
    if patch_size % multiple == 0:
        return None
    return f"--patch_size {patch_size}: {title} takes multiples of {multiple}; {other_sizes(patch_size, multiple)}"


def other_sizes(patch_size: int, multiple: int, own_size: int = 224) -> str:
    nearest = max(1, round(patch_size / multiple)) * multiple
    return f"choose {f'{nearest}, or ' * (nearest != patch_size)}{own_size}, the size of its weights"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, names)
    return f"; did you mean {' or '.join(close)}?" if close else ""

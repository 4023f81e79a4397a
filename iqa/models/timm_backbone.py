"""Models of the package timm as backbones (--backbone timm:NAME). Nothing else loads timm, which is optional."""

import functools
import logging
import re
import sys
from collections.abc import Callable, Iterable

import timm
import torch
from torch import Tensor, nn

from iqa.cli import first_line
from iqa.models import swin
from iqa.models.backbones import IMAGENET_MEAN, IMAGENET_STD, OTHER, TIMM, TIMM_KINDS, did_you_mean, other_sizes
from iqa.models.pooling import pool_to_grid

MAPS = 4


class NoFourMaps(ValueError):
    """The model gives fewer feature maps, or none."""


class TimmBackbone(nn.Module):
    """[B, 3, P, P] normalised for ImageNet -> four maps [B, C, 7, 7].

    They are the last four stages, or four evenly spread blocks of a network with a single stride (ViT).

    Args:
        name: name in timm, with or without the tag of its weights.
        patch_size: P, which is fixed where the network has position embeddings or windows.
        drop_path_rate: rate of stochastic depth; None: timm's default, mostly 0.
    """

    keeps_batch_norms = True

    def __init__(self, name: str, *, patch_size: int = 224, drop_path_rate: float | None = None):
        super().__init__()
        self.model = create(name, patch_size=patch_size, drop_path_rate=drop_path_rate)
        self.indices = map_indices(self.model)
        self.channels = tuple(self.model.feature_info[i]["num_chs"] for i in self.indices)
        names = self.model.state_dict().keys()
        self.indices = self.model.prune_intermediate_layers(self.indices, prune_norm=True)
        if hasattr(self.model, "head"):  # a ConvNeXt's keeps its norm
            self.model.head = nn.Identity()
        self.pruned = names - self.model.state_dict().keys()
        # image_factor * (image normalised for ImageNet) + image_offset = image normalised as the model expects
        config = self.model.pretrained_cfg
        constants = (IMAGENET_MEAN, IMAGENET_STD, config["mean"], config["std"])
        mean, std, own_mean, own_std = (torch.tensor(values)[:, None, None] for values in constants)
        self.register_buffer("image_factor", std / own_std)
        self.register_buffer("image_offset", (mean - own_mean) / own_std)

    def forward(self, images: Tensor, pool: Callable[[Tensor], Tensor]) -> list[Tensor]:
        images = images * self.image_factor + self.image_offset
        maps = self.model.forward_intermediates(
            images, indices=self.indices, output_fmt="NCHW", intermediates_only=True
        )
        assert tuple(x.shape[1] for x in maps) == self.channels
        return [pool(x) for x in maps]

    def own_names(self, keys: Iterable[str]) -> dict[str, str]:
        """timm's names of entries -> this module's, without those of the classifier."""
        return {key: f"model.{key}" for key in keys if key not in self.pruned}

    def converted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The entries of a weights file under timm's names, position embeddings resized to the patch size.

        timm converts names of a network's authors; torchvision's names of a Swin are converted here.
        """
        if "features.0.0.weight" in state and type(self.model).__name__ == "SwinTransformer":
            names = swin.SwinB.own_names(state)
            state = {re.sub(r"^layers_", "layers.", name): state[key] for key, name in names.items()}
        convert = getattr(sys.modules[type(self.model).__module__], "checkpoint_filter_fn", None)
        return convert(state, self.model) if convert else state


def create(name: str, *, patch_size: int, **options) -> nn.Module:
    """timm's model with its classifier; timm takes its own default for an option that is None."""
    img_size = patch_size if timm.get_pretrained_cfg(name).fixed_input_size else None
    return timm.create_model(name, img_size=img_size, **options)


def map_indices(model: nn.Module) -> list[int]:
    """The entries of `feature_info` that are the four maps."""
    strides = [stage["reduction"] for stage in getattr(model, "feature_info", ())]
    if len(strides) < MAPS or not hasattr(model, "prune_intermediate_layers"):
        raise NoFourMaps(f"it gives {len(strides)} feature maps, where {MAPS} are needed")
    if len(set(strides)) == 1:
        return [len(strides) * number // MAPS - 1 for number in range(1, MAPS + 1)]
    return list(range(len(strides) - MAPS, len(strides)))


@functools.cache
def model_problem(name: str, *, patch_size: int, drop_path_rate: float | None) -> str | None:
    """The reason in one line why a model cannot be a backbone, or None; tested on tensors without values."""
    known = timm.list_pretrained() if "." in name else timm.list_models()
    if name not in known:
        return f"--backbone {TIMM}{name}: unknown to timm {timm.__version__}{did_you_mean(name, known)}"
    try:
        network = TimmBackbone(name, patch_size=patch_size, drop_path_rate=drop_path_rate).to("meta")
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_pre_hook(refuse_border)
        network(torch.zeros(2, 3, patch_size, patch_size, device="meta"), pool_to_grid)[-1].sum().backward()
    except NoFourMaps as error:
        return f"--backbone {TIMM}{name}: {error}; choose another"
    except Exception as error:  # models raise various errors for a size that they do not support
        if "drop_path_rate" in str(error):
            return f"--drop_path_rate: {name} has no stochastic depth; leave it out, or choose another --backbone"
        sizes = other_sizes(patch_size, 32, timm.get_pretrained_cfg(name).input_size[-1])
        return f"--patch_size {patch_size}: {TIMM}{name} does not take it ({first_line(error)}); {sizes}"
    for key, parameter in network.named_parameters():
        if parameter.grad is None:
            return f"--backbone {TIMM}{name}: its last map does not depend on {key}; choose another"
    return None


def refuse_border(layer: nn.Conv2d, inputs: tuple[Tensor]) -> None:
    """Refuse a map that patch convolutions without overlap would crop."""
    size, side = inputs[0].shape[-1], layer.stride[0]
    if layer.kernel_size == layer.stride and size % side:
        raise ValueError(f"a map of {size}x{size} is cut into patches of {side}x{side}")


def pretrained(name: str, patch_size: int) -> tuple[str, Callable[[], dict[str, Tensor]]]:
    """The name of timm's own weights, and how they are read."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it logs each connection attempt
    where = f"timm's {name.partition('.')[0]}.{timm.get_pretrained_cfg(name).tag}"
    return where, lambda: create(name, patch_size=patch_size, pretrained=True).state_dict()


def kind_and_tag(name: str) -> tuple[str, str]:
    """CNN, Transformer or other by the family of the model, and the tag of its weights, such as in12k_ft_in1k."""
    family = timm.models.model_entrypoint(name.partition(".")[0]).__module__.rpartition(".")[2]
    kind = next((kind for kind, families in TIMM_KINDS.items() if family in families), OTHER)
    return kind, timm.get_pretrained_cfg(name).tag

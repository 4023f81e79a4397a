"""The table of the published models: how each is built and recognised by its weights. Importing it loads no torch."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from iqa.models.backbones import BACKBONES
from iqa.models.variants import Variant, find_variant

PATCH_MULTIPLE = 32  # their distortion modules cut the maps at strides 4, 8, 16, 32 into 8x8, 4x4, 2x2 and 1 cells


class Published(NamedTuple):
    """One row."""

    title: str  # in tables
    variant: Variant  # its names and its backbone
    parameters: int
    build: Callable[..., Any]  # (backbone, and for SMART-IQA use_multiscale and use_attention) -> module
    patch_num: int  # patches per image in training and evaluation


def build_hyperiqa(backbone):
    from iqa.models.hyperiqa import HyperIQA

    return HyperIQA(backbone)


def build_smart_iqa(backbone, **fusion: bool):
    from iqa.models.smart_iqa import SmartIQA

    return SmartIQA(backbone, **fusion)


PUBLISHED = {
    "hyperiqa": Published(
        "HyperIQA",
        Variant("published_hyperiqa", "hyperiqa", "resnet50", False, False),
        27_375_369,
        build_hyperiqa,
        patch_num=25,
    ),
    "smart_iqa": Published(
        "SMART-IQA",
        Variant("published_smart_iqa", "smart_iqa", "swin_b", True, True),
        89_111_941,
        build_smart_iqa,
        patch_num=20,
    ),
}

OWN = "ablation"  # --model and --recipe of this program's own three variants
MODELS = (OWN, *PUBLISHED)


def row_of(model: str, **flags) -> Variant:
    """The variant that the flags name, or that of a published model."""
    return find_variant(**flags) if model == OWN else PUBLISHED[model].variant


def build_published(name: str, backbone, **fusion: bool):
    """Build a published model.

    Args:
        name: a key of PUBLISHED.
        backbone: built by the row of BACKBONES that the model names; it becomes part of the model.
        fusion: use_multiscale and use_attention of SMART-IQA; both are on by default.
    """
    row = PUBLISHED[name]
    model = row.build(backbone, **fusion)
    model.variant = row.variant._replace(**fusion)
    return model


# An entry of the published state dict that only this model has.
KNOWN_BY = {"res.lda4_fc.bias": "hyperiqa", "swin.lda4_fc.bias": "smart_iqa"}


def published_model(saved: Mapping[str, Any]):
    """Build the published model of these weights, in evaluation mode; None for other weights.

    Args:
        saved: a state dict, bare or under `model_state_dict`, of one device or of DataParallel.

    Raises:
        ValueError: the names are those of a published model, and the shapes are not.
    """
    from iqa.models.weights import fill

    state = plain_state(saved)
    name = recognise(state)
    if name is None:
        return None
    row = PUBLISHED[name]
    backbone = BACKBONES[row.variant.backbone].build()
    model = build_published(name, backbone, **(fusion_of(state, backbone.channels) if name == "smart_iqa" else {}))
    if name == "smart_iqa":  # files of older versions of timm have more entries than weights
        state = renamed_under("swin.backbone.", state, backbone.own_names)
    problem = fill(model, state)
    if problem:
        raise ValueError(f"not {row.title} as it was published: {problem}")
    return model.eval()


def scoring_flags(model) -> dict[str, Any]:
    """The flags with which published weights score, as in config.json of a run."""
    name, fusion = model.variant.tag, model.variant[-2:]
    return {
        "model": name,
        "backbone": model.variant.backbone,
        "use_multiscale": fusion[0],
        "use_attention": fusion[1],
        "patch_size": 224,
        "test_patch_num": PUBLISHED[name].patch_num,
        "resize": "squeeze",
    }


def plain_state(saved: Mapping[str, Any]) -> dict[str, Any]:
    state = saved.get("model_state_dict", saved)
    state = state if isinstance(state, Mapping) else {}
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def recognise(state: Mapping[str, Any]) -> str | None:
    """The key in PUBLISHED of the model that has such entries, or None."""
    if not {"conv1.0.weight", "fc5b_fc.bias"} <= state.keys():
        return None
    return next((name for entry, name in KNOWN_BY.items() if entry in state), None)


def fusion_of(state: Mapping[str, Any], channels: tuple[int, ...]) -> dict[str, bool]:
    """SMART-IQA's flags: attention has its own entries, and multi-scale a wider first convolution."""
    return {
        "use_multiscale": state["conv1.0.weight"].shape[1] != channels[-1],
        "use_attention": any(key.startswith("multiscale_attention.") for key in state),
    }


def renamed_under(prefix: str, state: Mapping[str, Any], own_names: Callable[..., dict[str, str]]) -> dict[str, Any]:
    below = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    rest = {key: value for key, value in state.items() if not key.startswith(prefix)}
    return rest | {prefix + name: below[key] for key, name in own_names(below).items()}

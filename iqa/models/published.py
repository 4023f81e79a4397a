"""The table of the published models: how each is built and recognised by its weights. Importing it loads no torch."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from iqa.models.backbones import BACKBONES
from iqa.models.variants import Variant, find_variant

PATCH_MULTIPLE = 32  # their distortion modules cut the maps at strides 4, 8, 16, 32 into 8x8, 4x4, 2x2 and 1 cells


class Published(NamedTuple):
    """One row."""

    title: str  # in tables
    variant: Variant  # its names and its backbone
    patch_num: int  # patches per image in training and evaluation
    known_by: str  # an entry of the published state dict that no other model has


PUBLISHED = {
    "hyperiqa": Published(
        "HyperIQA", Variant("published_hyperiqa", "hyperiqa", "resnet50", False, False), 25, "res.lda4_fc.bias"
    ),
    "smart_iqa": Published(
        "SMART-IQA", Variant("published_smart_iqa", "smart_iqa", "swin_b", True, True), 20, "swin.lda4_fc.bias"
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
    from iqa.models.hyperiqa import HyperIQA
    from iqa.models.smart_iqa import SmartIQA

    model = {"hyperiqa": HyperIQA, "smart_iqa": SmartIQA}[name](backbone, **fusion)
    model.variant = PUBLISHED[name].variant._replace(**fusion)
    return model


def published_model(saved: Mapping[str, Any]):
    """Build the published model of these weights, in evaluation mode; None for other weights.

    Args:
        saved: a state dict, bare or under `model_state_dict`, of one device or of DataParallel.

    Raises:
        ValueError: the names are those of a published model, and the shapes are not.
    """
    from iqa.models.weights import fill

    state = saved.get("model_state_dict", saved)
    state = {str(key).removeprefix("module."): x for key, x in state.items()} if isinstance(state, Mapping) else {}
    entries = {"conv1.0.weight", "fc5b_fc.bias"}  # of both
    name = next((name for name, row in PUBLISHED.items() if {*entries, row.known_by} <= state.keys()), None)
    if name is None:
        return None
    row = PUBLISHED[name]
    backbone, fusion = BACKBONES[row.variant.backbone].build(), {}
    if name == "smart_iqa":  # multi-scale has a wider first convolution, attention its own entries
        width = getattr(state["conv1.0.weight"], "shape", ())[1:2]  # `fill` reports what is no tensor
        fusion["use_multiscale"] = width != backbone.channels[-1:]
        fusion["use_attention"] = any(key.startswith("multiscale_attention.") for key in state)
    model = build_published(name, backbone, **fusion)
    problem = fill(model, state)
    if problem:
        raise ValueError(f"not {row.title} as it was published: {problem}")
    return model.eval()


def scoring_flags(variant: Variant) -> dict[str, Any]:
    """The flags with which published weights score, as in config.json of a run."""
    return {
        "model": variant.tag,
        "backbone": variant.backbone,
        "use_multiscale": variant.use_multiscale,
        "use_attention": variant.use_attention,
        "patch_size": 224,
        "test_patch_num": PUBLISHED[variant.tag].patch_num,
        "test_random_crop": False,
        "seed": 0,
        "resize": "squeeze",
        "dataset": None,  # unknown
    }

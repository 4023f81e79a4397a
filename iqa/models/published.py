"""The table of the published models: how each is built and recognised by its weights. Importing it loads no torch."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from iqa.models.backbones import BACKBONES
from iqa.models.variants import Variant, find_variant

PATCH_MULTIPLE = 32  # their distortion modules cut the maps at strides 4, 8, 16, 32 into 8x8, 4x4, 2x2 and 1 cells


class Published(NamedTuple):
    """One row: a published model."""

    title: str  # in tables
    variant: Variant  # its names; what it fuses is its own matter
    parameters: int
    build: Callable[..., Any]  # (backbone with the weights to start from, **use_multiscale and use_attention)
    patch_num: int  # patches per image, in training and in evaluation


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
    """Names and backbone of a published model, or of the variant that the flags name."""
    return find_variant(**flags) if model == OWN else PUBLISHED[model].variant


def build_published(name: str, backbone, **fusion: bool):
    """The model on a backbone with the weights to start from; `variant` says what it fuses.

    Args:
        name: of the row.
        backbone: what BACKBONES[PUBLISHED[name].variant.backbone] builds; it becomes part of the model.
        fusion: use_multiscale and use_attention of SMART-IQA; both are on by default.
    """
    row = PUBLISHED[name]
    model = row.build(backbone, **fusion)
    model.variant = row.variant._replace(**fusion)
    return model


# Weights as they were published

KNOWN_BY = {"res.lda4_fc.bias": "hyperiqa", "swin.lda4_fc.bias": "smart_iqa"}


def published_model(saved: Mapping[str, Any]):
    """The model whose published weights these are, with them, in evaluation mode; None for anything else.

    Args:
        saved: a state dict, bare or under `model_state_dict`, of one device or of DataParallel.

    Raises:
        ValueError: named as a published model's, and of other shapes.
    """
    state = plain_state(saved)
    name = recognise(state)
    if name is None:
        return None
    row = PUBLISHED[name]
    backbone = BACKBONES[row.variant.backbone].build()
    model = build_published(name, backbone, **(fusion_of(state, backbone.channels) if name == "smart_iqa" else {}))
    if name == "smart_iqa":  # older versions of timm keep more than the weights
        state = renamed_under("swin.backbone.", state, backbone.own_names)
    fill(model, state, row.title)
    return model.eval()


def scoring_flags(model) -> dict[str, Any]:
    """The flags under which published weights score, as config.json of a run has them."""
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
    """The name in PUBLISHED of the model that has such entries."""
    if not {"conv1.0.weight", "fc5b_fc.bias"} <= state.keys():
        return None
    return next((name for entry, name in KNOWN_BY.items() if entry in state), None)


def fusion_of(state: Mapping[str, Any], channels: tuple[int, ...]) -> dict[str, bool]:
    """Which of SMART-IQA's three fusions: the attention has entries, and several scales a wider first convolution."""
    return {
        "use_multiscale": state["conv1.0.weight"].shape[1] != channels[-1],
        "use_attention": any(key.startswith("multiscale_attention.") for key in state),
    }


def renamed_under(prefix: str, state: Mapping[str, Any], own_names: Callable[..., dict[str, str]]) -> dict[str, Any]:
    below = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    rest = {key: value for key, value in state.items() if not key.startswith(prefix)}
    return rest | {prefix + name: below[key] for key, name in own_names(below).items()}


def fill(model, state: Mapping[str, Any], title: str) -> None:
    shapes = {key: getattr(value, "shape", None) for key, value in state.items()}
    expected = {key: value.shape for key, value in model.state_dict().items()}
    # PyTorch before 0.4.1 counted no batches, and evaluation needs no count.
    wrong = [key for key in {**expected, **shapes} if shapes.get(key) != expected.get(key)]
    wrong = [key for key in wrong if key in shapes or not key.endswith("num_batches_tracked")]
    if wrong:
        first = ", ".join(wrong[:3])
        raise ValueError(f"not {title} as it was published: {len(wrong)} entries differ, first {first}")
    model.load_state_dict(dict(state), strict=False)

"""The table of the published models: how each is built, known by its weights, and trained. Flags need no torch."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from iqa.models.backbones import BACKBONES
from iqa.models.variants import Variant, find_variant

PATCH_MULTIPLE = 32  # their distortion modules cut the maps at strides 4, 8, 16, 32 into 8x8, 4x4, 2x2 and 1 cells


class Recipe(NamedTuple):
    """What a published model was trained with; the fields below `schedule` have the names of the flags."""

    optimizer: str  # of torch.optim
    schedule: Callable[..., tuple[float, float]]  # (recipe, epochs before, epochs of the run) -> learning_rates
    head_lr_ratio: float  # learning rate of the rest over that of the backbone, which the distortion modules share
    lr: float  # of the backbone
    weight_decay: float
    batch_size: int
    epochs: int
    train_patch_num: int
    test_patch_num: int
    max_grad_norm: float

    def learning_rates(self, before: int, epochs: int) -> tuple[float, float]:
        """Of the backbone and of the rest, in the epoch with `before` epochs before it, in a run of `epochs`."""
        return self.schedule(self, before, epochs)


def in_steps(recipe: Recipe, before: int, epochs: int) -> tuple[float, float]:
    """HyperIQA's: it lowers the rest's rate after an epoch by that epoch's number, so a seventh has the first rate."""
    ratio = recipe.head_lr_ratio if before < 10 else 1.0
    return recipe.lr, recipe.lr * ratio / 10 ** (max(0, before - 1) // 6)


def on_a_cosine(recipe: Recipe, before: int, epochs: int, floor: float = 1e-6) -> tuple[float, float]:
    """SMART-IQA's, as torch's CosineAnnealingLR: to a floor above the backbone's own rate, which therefore rises."""
    part = (1 + math.cos(math.pi * before / epochs)) / 2
    return tuple(floor + (rate - floor) * part for rate in (recipe.lr, recipe.lr * recipe.head_lr_ratio))


RECIPE_FLAGS = Recipe._fields[Recipe._fields.index("schedule") + 1 :]


class Published(NamedTuple):
    """One row: a published model."""

    title: str  # in tables
    variant: Variant  # its names; what it fuses is its own matter
    parameters: int
    build: Callable[..., Any]  # (backbone with the weights to start from, **use_multiscale and use_attention)
    recipe: Recipe


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
        Recipe(
            "Adam",
            in_steps,
            head_lr_ratio=10.0,
            lr=2e-5,
            weight_decay=5e-4,
            batch_size=96,
            epochs=16,
            train_patch_num=25,
            test_patch_num=25,
            max_grad_norm=0.0,
        ),
    ),
    "smart_iqa": Published(
        "SMART-IQA",
        Variant("published_smart_iqa", "smart_iqa", "swin_b", True, True),
        89_111_941,
        build_smart_iqa,
        Recipe(
            "AdamW",
            on_a_cosine,
            head_lr_ratio=10.0,
            lr=5e-7,
            weight_decay=2e-4,
            batch_size=32,
            epochs=10,
            train_patch_num=20,
            test_patch_num=20,
            max_grad_norm=1.0,
        ),
    ),
}

OWN = "ablation"  # --model and --recipe of this program's own three variants
MODELS = (OWN, *PUBLISHED)


def row_of(model: str, **flags) -> Variant:
    """Names and backbone of a published model, or of the variant that the flags name."""
    return find_variant(**flags) if model == OWN else PUBLISHED[model].variant


def recipe_of(model: str, flags: Mapping[str, Any]) -> Recipe:
    """The recipe of a published model, with the numbers that the flags have."""
    return PUBLISHED[model].recipe._replace(**{name: flags[name] for name in RECIPE_FLAGS})


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
    model = build_published(name, backbone, **(fusion_of(state) if name == "smart_iqa" else {}))
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
        "test_patch_num": PUBLISHED[name].recipe.test_patch_num,
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


def fusion_of(state: Mapping[str, Any]) -> dict[str, bool]:
    """Which of SMART-IQA's three fusions: the attention has entries, and several scales a wider first convolution."""
    channels = BACKBONES["swin_b"].channels
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


if (
    __name__ == "__main__"
):  # for the runner: a line for each published model, its log name and its flags, given ones too
    import sys

    for name, row in PUBLISHED.items():
        print(row.variant.log_name, "--model", name, *sys.argv[1:])

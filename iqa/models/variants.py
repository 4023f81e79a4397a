"""The variants of the ablation: their flags, log names and checkpoint tags. Importing it loads no torch."""

from typing import NamedTuple

from iqa.models.backbones import find_backbone


class Variant(NamedTuple):
    """One row of the ablation; flags, log names, checkpoint names and tests all come from here."""

    log_name: str
    tag: str
    backbone: str
    use_multiscale: bool
    use_attention: bool


ATTENTION_ALONE = "--use_attention weighs the four scales against each other: add --use_multiscale"
FUSIONS = (
    ("1_baseline", "ss_noatt", False, False),
    ("2_multiscale", "ms_noatt", True, False),
    ("3_multiscale_attention", "ms_att", True, True),
)


def variants_of(backbone: str) -> tuple[Variant, ...]:
    """The three variants on one backbone; ValueError for an unknown one."""
    row = find_backbone(backbone)
    return tuple(Variant(row.log_name + name, row.tag + tag, backbone, *flags) for name, tag, *flags in FUSIONS)


VARIANTS = variants_of("resnet50")


def find_variant(*, backbone: str = "resnet50", use_multiscale: bool, use_attention: bool) -> Variant:
    """The variant with these flags; ValueError for attention without multi-scale."""
    for variant in variants_of(backbone):
        if (variant.use_multiscale, variant.use_attention) == (use_multiscale, use_attention):
            return variant
    raise ValueError(ATTENTION_ALONE)

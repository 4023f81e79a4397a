"""The three variants of the ablation, for all that builds, names or checks one. This file does without torch."""

from typing import NamedTuple


class Variant(NamedTuple):
    """One row of the ablation; flags, log names, checkpoint names and tests all come from here."""

    log_name: str
    tag: str
    use_multiscale: bool
    use_attention: bool
    parameters: int


VARIANTS = (
    Variant("exp1_baseline", "ss_noatt", False, False, 25_624_337),
    Variant("exp2_multiscale", "ms_noatt", True, False, 28_124_177),
    Variant("exp3_multiscale_attention", "ms_att", True, True, 28_649_749),
)


def find_variant(*, use_multiscale: bool, use_attention: bool) -> Variant:
    """The table's row for a pair of flags; ValueError for attention without multi-scale."""
    for variant in VARIANTS:
        if (variant.use_multiscale, variant.use_attention) == (use_multiscale, use_attention):
            return variant
    raise ValueError("--use_attention weighs the four scales against each other: add --use_multiscale")

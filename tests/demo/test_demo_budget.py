"""The demo is small enough for 2 ordinary cores."""

import pytest
from count_demo_flops import LIMIT, count_patches, count_tera_flop

from iqa.models.flop import flop_per_patch
from models_resnet_improved import ImageQualityResNet


def test_the_demo_does_at_most_40_tera_flop():
    counts = count_tera_flop(*count_patches())
    assert len(counts) == 3 and 1 < sum(counts.values()) <= LIMIT == 40, counts


def test_the_baselines_count_is_resnet50s():
    """4.089 billion multiply-adds at 224x224 (torchvision), less 2 million of its classifier; the head adds 5%."""
    flop = flop_per_patch(ImageQualityResNet(weights="none"), 224)
    assert flop.evaluation == pytest.approx(2 * 4.087e9, rel=0.06) and flop.evaluation > 2 * 4.087e9
    first_layer = 2 * 64 * 3 * 49 * 112**2  # its input needs no gradient
    assert flop.training == pytest.approx(3 * flop.evaluation - first_layer, rel=0.002)

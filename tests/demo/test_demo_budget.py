"""The demo stays small enough for 2 ordinary cores, by a count that is itself checked against known numbers."""

import count_demo_flops
import pytest
import torch
import torch.nn.functional as F
from count_demo_flops import LIMIT, demo_patches, demo_tera_flop, flop_of
from torch.utils.flop_counter import FlopCounterMode

from iqa.models.variants import VARIANTS


def test_the_demo_does_at_most_40_tera_flop():
    shares = demo_tera_flop(demo_patches())
    assert len(shares) == 3 and sum(shares.values()) <= LIMIT == 40, shares


def test_the_demos_patches_are_those_that_its_flags_ask_for(monkeypatch, tmp_path):
    script = """
recipe=(--no_color_jitter --seed 42)
# A comment (with brackets).
demo=(--data_path demo-data --patch_size 64 --epochs 3
      --train_patch_num 4 --test_patch_num 2) # two lines
    supervise "$python" "$here/demo_dataset.py" --output demo-data --images 300 || exit
"""
    (tmp_path / "run_resnet_ablation.sh").write_text(script)
    monkeypatch.setattr(count_demo_flops, "ROOT", tmp_path)
    patches = (
        demo_patches()
    )  # 210 training images make 26 batches of 32; 30 + 60 are evaluated; the first batch starts it
    assert patches == (3 * 26 * 32, 3 * 90 * 2 + 32, 64)


def test_convolutions_and_generated_layers_are_counted_forward_and_backward():
    """Two operations for each weight and place, twice that backward."""
    images, weight = torch.zeros(2, 4, 10, 10, requires_grad=True), torch.zeros(8, 4, 3, 3, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        F.conv2d(images, weight, padding=1).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * (2 * 8 * 100 * 4 * 9)
    bias, matrices, x = (torch.zeros(3, *shape, requires_grad=True) for shape in ((5, 1), (5, 7), (7, 1)))
    with FlopCounterMode(display=False) as counter:
        torch.baddbmm(bias, matrices, x).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * (3 * 5 * 7)


def test_the_baselines_count_is_resnet50s():
    """4.089 billion multiply-adds at 224x224 (torchvision's), its classifier's 2 million aside; the head adds 5%."""
    flop = flop_of(VARIANTS[0], 224)
    assert flop.evaluation == pytest.approx(2 * 4.087e9, rel=0.06) and flop.evaluation > 2 * 4.087e9
    first_layer = 2 * 64 * 3 * 49 * 112**2  # whose input needs no gradient
    assert flop.training == pytest.approx(3 * flop.evaluation - first_layer, rel=0.002)

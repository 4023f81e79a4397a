"""The start of a training: the same for every variant, every scale of features and every scale of MOS."""

import copy
import functools

import pytest
import torch
from torch import nn

from iqa.models.backbones import BACKBONES, Backbone
from iqa.models.variants import FUSIONS
from models_resnet_improved import ImageQualityResNet

CHANNELS = (24, 40, 112, 1280)
RANGES = {
    (0, 1): (0.5, 0.16),
    (1, 5): (3.1, 0.62),
    (0, 100): (58.7, 15.4),
}  # MOS scale -> mean, deviation of a data set
FLAGS = [{"use_multiscale": multiscale, "use_attention": attention} for _, _, multiscale, attention in FUSIONS]
ids = [name for _, name, _, _ in FUSIONS]


class Maps(nn.Module):
    """Four maps of one property of each image, varied over channels and positions, with a few outlying channels."""

    def __init__(self, scale: float):
        super().__init__()
        self.scale, self.channels = scale, CHANNELS
        generator = torch.Generator().manual_seed(7)
        self.weights = [torch.rand(c, 1, 1, generator=generator) for c in CHANNELS]
        for weight in self.weights:
            weight[3] *= 50

    def forward(self, images: torch.Tensor, pool) -> list[torch.Tensor]:
        traits = images.mean(1, keepdim=True)  # [B, 1, 7, 7]
        return [pool(self.scale * (weight * traits).relu()) for weight in self.weights]


SCALES = {"maps/10": 0.1, "maps": 1.0, "maps*10": 10.0}  # backbone -> factor of its features


@pytest.fixture(autouse=True)
def backbones(monkeypatch):
    for name, scale in SCALES.items():
        monkeypatch.setitem(BACKBONES, name, Backbone("Maps", functools.partial(Maps, scale), "maps"))


def first_scores(backbone: str, flags: dict, mos: tuple[float, float], images: torch.Tensor, others: torch.Tensor):
    """For other images than those that determined the start, in training and in evaluation mode."""
    torch.manual_seed(0)
    model = ImageQualityResNet(backbone=backbone, weights="none", mos_mean=mos[0], mos_deviation=mos[1], **flags)
    model.start(images)
    with torch.no_grad():
        return model.train()(others), model.eval()(others)


@pytest.mark.parametrize("flags", FLAGS, ids=ids)
@pytest.mark.parametrize("ends", RANGES)
@pytest.mark.parametrize("backbone", SCALES)
def test_first_scores_spread_alike_whatever_the_features_and_the_scale_of_mos(backbone, flags, ends):
    """A spread of 5% to 50% of the range, around the mean MOS."""
    low, high = ends
    images, others = torch.randn(2, 32, 3, 7, 7, generator=torch.Generator().manual_seed(1))
    for scores in first_scores(backbone, flags, RANGES[ends], images, others):
        assert 0.005 <= scores.std().item() / (high - low) <= 0.05
        assert abs(scores.mean().item() - RANGES[ends][0]) / (high - low) <= 0.03


@pytest.mark.parametrize("flags", FLAGS, ids=ids)
def test_first_scores_spread_the_same_for_features_of_every_scale(flags):
    images, others = torch.randn(2, 32, 3, 7, 7, generator=torch.Generator().manual_seed(1))
    found = [torch.stack(first_scores(backbone, flags, (50, 15), images, others)) for backbone in SCALES]
    for scores in found[1:]:  # but for the epsilon of the adapters' batch norms
        torch.testing.assert_close(scores.std(1), found[0].std(1), rtol=0.2, atol=0)


@pytest.fixture(scope="module")
def resnet50():
    torch.manual_seed(0)
    return BACKBONES["resnet50"].build()


@pytest.mark.parametrize("flags", FLAGS, ids=ids)
@pytest.mark.parametrize("size", [32, 96])
def test_a_resnet50_from_random_weights_starts_so_too(resnet50, flags, size, monkeypatch):
    monkeypatch.setitem(BACKBONES, "resnet50", BACKBONES["resnet50"]._replace(build=lambda: copy.deepcopy(resnet50)))
    images, others = torch.randn(2, 16, 3, size, size, generator=torch.Generator().manual_seed(1))
    for scores in first_scores("resnet50", flags, (50, 15), images, others):
        assert 0.5 <= scores.std().item() <= 5


@pytest.mark.parametrize("flags", FLAGS, ids=ids)
def test_the_start_draws_no_random_number_and_leaves_the_modes_and_other_statistics(flags):
    model = ImageQualityResNet(backbone="maps", weights="none", **flags).train()
    model.projection.eval()
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms[:1]:
        norm.running_mean.fill_(3)
    state = torch.get_rng_state()
    model.start(torch.randn(8, 3, 7, 7, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training and not model.projection.training and model.hyper_net.training
    assert all((norm.running_mean == 3).all() and norm.momentum == 0.1 for norm in norms[:1])


@pytest.mark.parametrize("images", [torch.zeros(4, 3, 7, 7), torch.ones(1, 3, 7, 7)], ids=["all the same", "one"])
@pytest.mark.parametrize("flags", FLAGS, ids=ids)
def test_images_that_do_not_differ_leave_finite_scores(flags, images):
    for scores in first_scores("maps", flags, (50, 15), images, torch.randn(4, 3, 7, 7)):
        assert scores.isfinite().all()


def test_the_start_is_part_of_the_state():
    images = torch.randn(8, 3, 7, 7)
    first = ImageQualityResNet(backbone="maps", weights="none", use_multiscale=True, mos_mean=3, mos_deviation=0.5)
    first.start(images)
    second = ImageQualityResNet(backbone="maps", weights="none", use_multiscale=True)
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        assert torch.equal(first.eval()(images), second.eval()(images))

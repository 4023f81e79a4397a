"""Swin-B as a backbone: the names of its weights, its maps, its sizes."""

import contextlib
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import swin_b
from torchvision.ops import StochasticDepth

from iqa.models.backbones import BACKBONES, SWIN_DROP_PATH, patch_size_problem
from iqa.models.pooling import pool_to_grid
from iqa.models.variants import variants_of
from iqa.models.weights import build_backbone, fill
from models_resnet_improved import ImageQualityResNet

ROW = BACKBONES["swin_b"]


@contextlib.contextmanager
def no_random_start():
    """Skip torchvision's slow initialisation of 88 million weights; the relevant ones are drawn here."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("trunc_normal_", "xavier_uniform_", "kaiming_uniform_", "uniform_", "normal_"):
            patch.setattr(nn.init, name, lambda tensor, *_, **__: tensor)
        yield


def draw(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.normal_(std=1.0 if name.endswith("bias_table") else 0.05)
            parameter += name.endswith("weight") and parameter.ndim == 1  # of a norm
    return network.eval()


@pytest.fixture(scope="module")
def theirs():
    """torchvision's network, with its norm and classifier."""
    with no_random_start():
        return draw(swin_b(weights=None))


@pytest.fixture(scope="module")
def network(theirs):
    """This program's with the same weights."""
    with no_random_start():
        network = ROW.build()
    load(network, theirs.state_dict())
    return network


def load(network: nn.Module, state) -> None:
    network.load_state_dict({name: state[key] for key, name in network.own_names(state).items()})


def torchvisions(state):
    return state


def microsofts(state):
    """patch_embed.proj, layers.0.blocks.1.mlp.fc1, layers.0.downsample; buffers of the windows too."""
    renamed = {}
    for key, value in state.items():
        key = key.replace("features.0.0.", "patch_embed.proj.").replace("features.0.2.", "patch_embed.norm.")
        for stage in range(4):
            key = key.replace(f"features.{2 * stage + 1}.", f"layers.{stage}.blocks.")
            key = key.replace(f"features.{2 * stage + 2}.", f"layers.{stage}.downsample.")
        key = key.replace("mlp.0.", "mlp.fc1.").replace("mlp.3.", "mlp.fc2.")
        renamed[key] = value.view(49, 49) if key.endswith("_index") else value
    return {**renamed, "layers.0.blocks.1.attn_mask": torch.zeros(64, 49, 49)}


def timms(state):
    """Each downsample is in the stage after it, the classifier is head.fc, and nothing but weights is kept."""
    renamed = {
        re.sub(r"^layers\.(\d)\.downsample", lambda match: f"layers.{int(match[1]) + 1}.downsample", key): value
        for key, value in microsofts(state).items()
        if not key.endswith(("_index", "attn_mask"))
    }
    return {key.replace("head.", "head.fc."): value for key, value in renamed.items()}


def timms_features(state):
    """With features_only: layers_0, no final norm and no classifier."""
    kept = {key: value for key, value in timms(state).items() if not key.startswith(("norm.", "head."))}
    return {re.sub(r"^layers\.", "layers_", key): value for key, value in kept.items()}


@pytest.mark.parametrize("naming", [torchvisions, microsofts, timms, timms_features])
def test_each_naming_gives_the_maps_of_torchvision(theirs, network, naming):
    state = naming(theirs.state_dict())
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    load(network, state)
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        expected, x = [], images
        for number, part in enumerate(theirs.features):
            x = part(x)
            if number % 2:  # a stage, before its patches are merged
                expected.append(x.permute(0, 3, 1, 2))
        maps, pooled = (network.eval()(images, pool) for pool in (nn.Identity(), pool_to_grid))
    for i, (own, other) in enumerate(zip(maps, expected, strict=True)):
        assert own.shape == (2, network.channels[i], 16 // 2**i, 24 // 2**i)
        torch.testing.assert_close(own, other, rtol=0, atol=1e-5)
        torch.testing.assert_close(pooled[i], F.adaptive_avg_pool2d(other, 7), rtol=1e-5, atol=1e-5)


def test_timms_swin_takes_each_naming_and_gives_the_same_maps(theirs, network):
    with no_random_start():
        other = build_backbone("timm:swin_base_patch4_window7_224", weights="none").eval()
    assert fill(network, theirs.state_dict()) is None
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        expected = network.eval()(images, pool_to_grid)
    for naming in (microsofts, torchvisions):
        nn.init.zeros_(other.model.patch_embed.proj.weight)
        nn.init.zeros_(other.model.layers[1].downsample.reduction.weight)
        assert fill(other, naming(theirs.state_dict())) is None
        torch.testing.assert_close(
            other.model.layers[1].downsample.reduction.weight, theirs.features[2].reduction.weight
        )
    with torch.inference_mode():
        for one, another in zip(expected, other(images, pool_to_grid), strict=True):
            torch.testing.assert_close(one, another, rtol=1e-5, atol=1e-5)


def test_one_name_of_both_is_told_apart_by_the_others(network):
    key = "layers.1.downsample.reduction.weight"  # 256 -> 512 channels at Microsoft, 128 -> 256 at timm
    assert network.own_names([key, "layers.0.downsample.norm.bias"])[key] == "layers_2.downsample.reduction.weight"
    assert network.own_names([key, "layers.3.downsample.norm.bias"])[key] == "layers_1.downsample.reduction.weight"


@pytest.mark.parametrize("variant", variants_of("swin_b"), ids=lambda variant: variant.tag)
def test_scores_and_gradients(variant, network, monkeypatch):
    assert variant.tag.startswith("swin_b_")
    flags = {"use_multiscale": variant.use_multiscale, "use_attention": variant.use_attention}
    monkeypatch.setitem(BACKBONES, "swin_b", ROW._replace(build=lambda: network))  # the same for every variant
    model = ImageQualityResNet(backbone="swin_b", weights="none", **flags)
    for layer in model.train().modules():
        if isinstance(layer, StochasticDepth):  # which leaves whole blocks out
            layer.eval()
    scores = model(torch.randn(2, 3, 64, 64))
    assert scores.shape == (2,) and scores.isfinite().all()
    F.l1_loss(scores, torch.full((2,), 1e6)).backward()
    assert [name for name, parameter in model.backbone.named_parameters() if not parameter.grad.abs().sum() > 0] == []
    model.zero_grad()


def test_stochastic_depth_rises_to_its_rate_and_acts_in_training_alone(network):
    assert ROW.drop_path_rate == SWIN_DROP_PATH and BACKBONES["resnet50"].drop_path_rate is None
    for arguments, rate in (({}, SWIN_DROP_PATH), ({"drop_path_rate": 0.9}, 0.9)):
        with no_random_start():
            dropping = ROW.build(**arguments)
        rates = [layer.p for layer in dropping.modules() if isinstance(layer, StochasticDepth)]
        torch.testing.assert_close(torch.tensor(rates), torch.linspace(0, rate, 24))
    dropping.load_state_dict(network.state_dict(), assign=True)
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        for training in (False, True):
            dropping.train(training)
            assert torch.equal(*(dropping(images, pool_to_grid)[3] for _ in range(2))) != training


@pytest.mark.parametrize("size, nearest", [(100, 96), (33, 32), (230, 224), (383, 384), (17, 32)])
def test_a_patch_size_that_swin_does_not_take_names_one_that_it_takes(size, nearest):
    problem = patch_size_problem(ROW.title, ROW.patch_multiple, size)
    assert (
        problem.startswith(f"--patch_size {size}: Swin-B takes multiples of 32; choose {nearest}")
        and "\n" not in problem
    )
    assert patch_size_problem(ROW.title, ROW.patch_multiple, nearest) is None
    assert patch_size_problem("ResNet50", BACKBONES["resnet50"].patch_multiple, size) is None

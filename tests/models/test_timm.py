"""--backbone timm:NAME: models of timm train, score and load like the rows of the table."""

import sys

import pytest
import timm
import torch
import torch.nn.functional as F
from conftest import assert_one_line_error, read_rows, read_scores, refuse, run_main, train
from safetensors.torch import save_file

from iqa.models.backbones import backbone_problem, find_backbone
from iqa.models.flop import counted_flop
from iqa.models.folding import fold_batch_norms
from iqa.models.pooling import pool_to_grid
from iqa.models.resnet import ResNet
from iqa.models.variants import variants_of
from iqa.models.weights import build_backbone, describe_backbone, fill
from iqa.training import distributed
from iqa.training.optimization import freeze_batch_norms
from models_resnet_improved import ImageQualityResNet

MODELS = {  # and the patch size; the ConvNeXt and the ViT are not normalised for ImageNet
    "resnet18": 32,
    "test_convnext": 32,
    "test_efficientnet": 32,
    "swin_tiny_patch4_window7_224": 64,
    "test_vit": 320,
    "mobilenetv3_small_050": 32,
}
FUSION = {"use_multiscale": True, "use_attention": True}


@pytest.mark.parametrize("name, size", MODELS.items())
def test_a_model_of_timm_trains_and_scores_the_same_in_another_process(name, size, tiny_data, tmp_path):
    flags = ("--use_multiscale", "--use_attention", "--save_model", "--precision", "fp32", "--lr", "1e-3")
    process = train(
        *("--backbone", f"timm:{name}", "--patch_size", size, "--epochs", "1", "--output_dir", "run"),
        *("--data_path", tiny_data, *flags),
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stderr
    checkpoint = tmp_path / f"checkpoints/resnet_improved_timm_{name}_ms_att_best.pth"
    expected = read_scores(tmp_path / "run/predictions_test.csv")
    images = [tiny_data / "1024x768" / image for image in expected]
    flags = "--patches checkpoint --device cpu --output scores.csv".split()
    process = run_main("score_images", "--checkpoint", checkpoint, *flags, *images, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    scores = [float(row["score"]) for row in read_rows(tmp_path / "scores.csv")]
    assert scores == pytest.approx(list(expected.values()), abs=1e-3)

    saved = torch.load(checkpoint, weights_only=True)
    assert saved["config"]["versions"]["timm"] == timm.__version__
    model = ImageQualityResNet(backbone=f"timm:{name}", weights="none", patch_size=size, **FUSION)
    model.load_state_dict(saved["model"])
    patches = torch.randn(2, 3, size, size)
    with torch.no_grad():  # after training steps, which change the statistics of batch norms
        torch.testing.assert_close(fold_batch_norms(model)(patches), model.eval()(patches), rtol=1e-6, atol=1e-4)
    parameters = dict(model.backbone.named_parameters())
    model.backbone.train()(patches, pool_to_grid)[-1].sum().backward()  # what a baseline trains
    assert [key for key, parameter in parameters.items() if parameter.grad is None] == []
    F.l1_loss(model.train()(patches), torch.full((2,), 1e6)).backward()
    assert [key for key, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 0] == []


def test_maps_are_those_of_torchvision_for_the_same_weights(tmp_path):
    torch.manual_seed(0)
    own, theirs = ResNet("resnet50"), build_backbone("timm:resnet50", weights="none")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        own.train()(images, pool_to_grid)  # statistics that a new batch norm does not have
    state = {key.replace("stem.0", "conv1").replace("stem.1", "bn1"): x for key, x in own.state_dict().items()}
    state = {f"layer{int(key[7]) + 1}{key[8:]}" if key.startswith("stages.") else key: x for key, x in state.items()}
    assert fill(theirs, state) is None
    assert own.channels == theirs.channels
    with torch.no_grad():
        for one, other in zip(own.eval()(images, pool_to_grid), theirs.eval()(images, pool_to_grid), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_images_are_normalised_as_the_package_does():
    network = build_backbone("timm:test_convnext", weights="none").eval()
    config = network.model.pretrained_cfg
    assert config["mean"] == (0.5, 0.5, 0.5)
    pixels = torch.rand(1, 3, 64, 64)
    mean, std, own_mean, own_std = (
        torch.tensor(values)[:, None, None]
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), config["mean"], config["std"])
    )
    expected = network.model.forward_intermediates((pixels - own_mean) / own_std, intermediates_only=True)[-1]
    torch.testing.assert_close(network((pixels - mean) / std, pool_to_grid)[-1], pool_to_grid(expected))


def test_a_vit_gives_four_evenly_spread_blocks():
    network = build_backbone("timm:vit_tiny_patch16_224", weights="none")
    assert network.indices == [2, 5, 8, 11] and network.channels == (192,) * 4


@pytest.mark.parametrize(
    "name, flags, words",
    [
        ("resnet5", {}, ["did you mean", "resnet50", "timm:NAME"]),
        ("resnet50", {"drop_path_rate": 0.1}, ["--drop_path_rate", "stochastic depth"]),
        ("timm:convnxt_tiny", {}, ["did you mean convnext_tiny", timm.__version__]),
        ("timm:test_vit.r160_in2k", {}, ["did you mean test_vit.r160_in1k"]),
        ("timm:levit_128s", {}, ["3 feature maps"]),
        ("timm:coat_mini", {}, ["does not depend on"]),
        ("timm:test_vit", {"patch_size": 100}, ["--patch_size 100", "choose 96", "160"]),
        ("timm:test_maxvit", {"patch_size": 100}, ["--patch_size 100", "choose 96", "160"]),
        ("timm:test_convnext", {"patch_size": 48}, ["--patch_size 48", "3x3", "choose 64"]),
        ("timm:vgg11", {"drop_path_rate": 0.1}, ["--drop_path_rate", "stochastic depth"]),
    ],
)
def test_what_cannot_be_a_backbone_is_refused_in_one_line(name, flags, words):
    problem = backbone_problem(name, **flags)
    assert "\n" not in problem and all(word in problem for word in words), problem


def test_the_command_refuses_them_before_it_reads_data(tmp_path):
    for name, words in (("timm:levit_128s", "3 feature maps"), ("swinb", "did you mean swin_b")):
        assert_one_line_error(refuse("--backbone", name, cwd=tmp_path), name, words)


def test_a_missing_timm_names_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert_one_line_error(refuse("--backbone", "timm:test_vit", cwd=tmp_path), "pip install timm")
    assert backbone_problem("resnet18") is None


def test_weights_out_of_reach_are_one_line(tiny_data, tmp_path):
    process = train(
        *("--data_path", tiny_data, "--backbone", "timm:test_vit", "--weights", "imagenet"),
        cwd=tmp_path,
        HF_HUB_OFFLINE="1",
        HF_HOME=str(tmp_path),
    )
    assert_one_line_error(process, "--weights imagenet", "test_vit.r160_in1k", "none")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("classifier", [True, False])
def test_weights_from_safetensors_with_or_without_classifier(tmp_path, dtype, classifier):
    torch.manual_seed(0)
    theirs = timm.create_model("test_vit")  # its position embeddings are for 160 pixels
    state = {key: x.to(dtype) for key, x in theirs.state_dict().items() if classifier or not key.startswith("head.")}
    path = str(tmp_path / "weights.safetensors")
    save_file(state, path)
    network = build_backbone("timm:test_vit", weights=path, patch_size=224)
    torch.testing.assert_close(network.model.patch_embed.proj.weight, state["patch_embed.proj.weight"].float())
    assert network.model.pos_embed.shape[1] != state["pos_embed"].shape[1]
    del state["blocks.0.attn.qkv.weight"]
    save_file(state, path)
    with pytest.raises(
        ValueError, match=r"not a timm:test_vit: 1 entries differ, first model\.blocks\.0\.attn\.qkv\.weight"
    ):
        build_backbone("timm:test_vit", weights=path, patch_size=224)


def test_names_follow_from_the_name():
    first = variants_of("timm:convnext_tiny.in12k_ft_in1k")[0]
    assert first.log_name == "timm_convnext_tiny-in12k_ft_in1k_1_baseline"
    assert first.tag == "timm_convnext_tiny-in12k_ft_in1k_ss_noatt"
    assert variants_of("resnet34")[2].log_name == "resnet34_3_multiscale_attention"


@pytest.mark.parametrize(
    "name, kind, tag",
    [
        ("timm:convnext_tiny.in12k_ft_in1k", "CNN", "in12k_ft_in1k"),
        ("timm:swin_base_patch4_window7_224", "Transformer", "ms_in22k_ft_in1k"),
        ("timm:coatnet_0_rw_224", "other", "sw_in1k"),
        ("resnet101", "CNN", "IMAGENET1K_V1"),
    ],
)
def test_kind_and_weights_are_recorded(name, kind, tag):
    facts = describe_backbone(name, "imagenet")
    assert facts == {"backbone_title": find_backbone(name).title, "backbone_kind": kind, "backbone_weights": tag}
    assert describe_backbone(name, "none")["backbone_weights"] == "none"


def test_attention_counts_by_its_matrix_products():
    queries, keys = torch.zeros(1, 3, 50, 16), torch.zeros(1, 3, 40, 16)
    with counted_flop() as counter:
        F.scaled_dot_product_attention(queries, keys, keys)
    assert counter.get_total_flops() == 2 * (2 * 3 * 50 * 40 * 16)


def test_synchronised_and_frozen_batch_norms_keep_the_activation(monkeypatch):
    torch.manual_seed(0)
    layer, x = timm.layers.BatchNormAct2d(4), torch.randn(8, 4, 5, 5)
    expected = layer(x)
    monkeypatch.setattr(distributed, "mean_over_processes", lambda value: value)
    distributed.synchronise_batch_norms(layer)
    torch.testing.assert_close(layer(x), expected)
    assert (expected >= 0).all()
    network = build_backbone("timm:mobilenetv3_small_050", weights="none").train()
    statistics = network.model.bn1.running_mean.clone()
    freeze_batch_norms(network)
    network(torch.randn(2, 3, 32, 32), pool_to_grid)
    assert torch.equal(network.model.bn1.running_mean, statistics)

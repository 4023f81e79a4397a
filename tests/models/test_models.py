"""The model of the three variants: exact sizes, shapes, and what must not depend on what."""

import copy
import sys

import pytest
import torch
import torch.nn.functional as F
from conftest import RESNET50, ROOT, run_program
from faults import inject
from torchvision.models import resnet50

from iqa.models.folding import fold_batch_norms
from iqa.models.pooling import pool_to_grid
from iqa.models.variants import VARIANTS, find_variant
from models_resnet_improved import ImageQualityResNet, ScaleAttention, target_net
from train_resnet_improved import choose_optimizer, parse_options


def make_model(variant, **arguments) -> ImageQualityResNet:
    torch.manual_seed(0)
    arguments = {"weights": "none", **arguments}
    return ImageQualityResNet(use_multiscale=variant.use_multiscale, use_attention=variant.use_attention, **arguments)


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda variant: variant.tag)
def model(request):
    return make_model(request.param)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", [64, 224])
def test_one_score_per_patch(model, batch, size):
    with torch.inference_mode():
        scores = model.eval()(torch.randn(batch, 3, size, size))
    assert scores.shape == (batch,) and scores.dtype == torch.float32 and scores.isfinite().all()


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("shape", [(3, 3), (7, 7), (12, 12), (50, 50), (56, 56), (6, 14)])
def test_maps_are_pooled_adaptively_with_deterministic_kernels_too(shape, deterministic):
    x = torch.randn(2, 4, *shape, requires_grad=True)
    expected = F.adaptive_avg_pool2d(x, 7)
    torch.use_deterministic_algorithms(deterministic)
    pooled = pool_to_grid(x)
    torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(pooled, expected)
    direction = torch.randn_like(expected)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, direction)[0] for y in (pooled, expected)))


def test_a_score_does_not_depend_on_its_batch(model):
    images = torch.randn(3, 3, 96, 96)
    with torch.inference_mode():
        together = model.eval()(images)
        alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_scores_stay_fp32_under_autocast(model):
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert model.eval()(torch.randn(2, 3, 64, 64)).dtype == torch.float32


def test_every_parameter_is_optimized_once_and_receives_a_gradient(model):
    optimizer = choose_optimizer(parse_options([]), model, 1).optimizer
    optimized = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(optimized) == sorted(map(id, model.parameters()))
    F.l1_loss(model.train()(torch.randn(4, 3, 64, 64)), torch.full((4,), 1e6)).backward()
    silent = [name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert silent == []
    model.zero_grad()


def test_attention_sums_to_one_and_is_given_by_the_third_variant_only(model):
    with torch.inference_mode():
        attention = model.eval().describe(torch.randn(3, 3, 64, 64)).attention
    if not model.variant.use_attention:
        assert attention is None
        return
    assert attention.shape == (3, 4) and (attention >= 0).all()
    torch.testing.assert_close(attention.sum(1), torch.ones(3))


def test_attention_starts_near_uniform():
    torch.manual_seed(0)
    weights = ScaleAttention((256, 512, 1024, 2048)).eval()(torch.rand(8, 2048, 7, 7))
    torch.testing.assert_close(weights, torch.full((8, 4), 0.25), atol=0.05, rtol=0)


def test_target_network_equals_grouped_convolution():
    """The form in which HyperIQA computes it: a convolution with one group per image."""
    torch.manual_seed(0)
    batch, widths = 5, (112, 224, 112, 56, 28, 1)
    layers = [(torch.randn(batch, b, a), torch.randn(batch, b)) for a, b in zip(widths, widths[1:], strict=False)]
    inputs = torch.randn(batch, widths[0])
    x = inputs.reshape(1, -1, 1, 1)
    for i, (weight, bias) in enumerate(layers):
        x = F.conv2d(x, weight.flatten(0, 1)[:, :, None, None], bias.flatten(), groups=batch)
        x = x.sigmoid() if i < 4 else x
    scores, hidden = target_net(inputs, layers)
    assert [tuple(units.shape) for units in hidden] == [(batch, width) for width in widths[1:-1]]
    torch.testing.assert_close(scores, x.flatten(), rtol=1e-4, atol=1e-2 * scores.abs().max().item())
    torch.testing.assert_close(scores / scores.abs().max(), x.flatten() / scores.abs().max(), rtol=0, atol=1e-5)


def test_attention_without_multiscale_is_an_error():
    with pytest.raises(ValueError, match="--use_multiscale"):
        ImageQualityResNet(use_attention=True, weights="none")
    with pytest.raises(ValueError, match="--use_multiscale"):
        find_variant(use_multiscale=False, use_attention=True)


@pytest.fixture(scope="module")
def theirs():
    """torchvision's state dict, other weights than a new model has."""
    torch.manual_seed(1)
    return resnet50(weights=None).state_dict()


@pytest.mark.parametrize("left_out", [None, "fc.", "num_batches"])
def test_weights_from_a_file_with_or_without_classifier_and_counters(theirs, tmp_path, left_out):
    """torchvision's own files for ResNet50 are older than the counters of batch norms."""
    state = {key: value for key, value in theirs.items() if not left_out or left_out not in key}
    torch.save(state, tmp_path / "w.pth")
    backbone = make_model(VARIANTS[0], weights=str(tmp_path / "w.pth")).backbone
    torch.testing.assert_close(backbone.stem[0].weight, theirs["conv1.weight"])
    torch.testing.assert_close(backbone.stages[3][2].conv3.weight, theirs["layer4.2.conv3.weight"])
    torch.testing.assert_close(backbone.stages[3][2].bn3.running_var, theirs["layer4.2.bn3.running_var"])


def test_weights_of_another_shape_name_the_first_offenders(theirs, tmp_path):
    torch.save({**theirs, "layer1.0.conv1.weight": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"layer1\.0\.conv1\.weight"):
        make_model(VARIANTS[0], weights=str(tmp_path / "w.pth"))


def test_the_module_prints_counts_shapes_and_attention(tmp_path):
    """With smaller patches than its own, on which none of this depends."""
    smaller = inject("import torch; randn = torch.randn; torch.randn = lambda *shape: randn(*shape[:2], 64, 64)")
    process = run_program(sys.executable, ROOT / "models_resnet_improved.py", cwd=tmp_path, **RESNET50, **smaller)
    assert process.returncode == 0, process.stderr
    for text in (
        "exp1_baseline: 25,624,337 parameters (25.62M)",
        "exp2_multiscale: 28,124,177 parameters (28.12M)",
        "exp3_multiscale_attention: 28,649,749 parameters (28.65M)",
        "swin1_baseline: 88,218,505 ",
        "swin2_multiscale: 89,124,361 ",
        "swin3_multiscale_attention: 89,387,789 ",
        "published_hyperiqa: 27,375,369 ",
        "published_smart_iqa: 89,111,941 ",
    ):
        assert text in process.stdout
    assert process.stdout.count("batch of 2: scores [2]") == process.stdout.count("batch of 1: scores [1]") == 3
    assert process.stdout.count("sum 1.0000") == 3


def test_folded_batch_norms_change_no_score(model):
    model = copy.deepcopy(model)
    with torch.no_grad():
        for _ in range(3):  # running statistics that differ from those of a new model
            model.train()(torch.randn(4, 3, 64, 64) * 2 + 1)
        for layer in model.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_()
        folded = fold_batch_norms(model)
        images = torch.randn(4, 3, 64, 64)
        expected, attention, _ = model.eval().describe(images)
        scores, folded_attention, _ = folded.describe(images)
        torch.testing.assert_close(scores, expected, atol=1e-3, rtol=1e-4)
        if attention is not None:
            torch.testing.assert_close(folded_attention, attention)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in folded.modules())

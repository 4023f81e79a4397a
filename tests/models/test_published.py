"""The published models equal the programs of their authors, and published weights are read.

REFERENCES holds the results of the authors' programs on weights and images that are formulas here:
tools/published_references.py computes them.
"""

import functools
import hashlib
import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from iqa.models.backbones import BACKBONES
from iqa.models.folding import fold_batch_norms
from iqa.models.published import PUBLISHED, build_published, published_model, scoring_flags
from iqa.training.recipe import PUBLISHED_RECIPES
from train_resnet_improved import choose_optimizer, parse_options

FUSIONS = {"single": (False, False), "multiscale": (True, False), "attention": (True, True)}
REFERENCES = {  # parameters, digest of the state dict, scores of images(2), attention
    "hyperiqa": (27_375_369, "99c8351302f0187b", [-6.503819, -7.799253], None),
    "smart_iqa single": (88_389_761, "636bccf8d53de728", [-2.772938, -2.452227], None),
    "smart_iqa multiscale": (88_848_513, "6c5e859916b86550", [-24.80111, -29.30223], None),
    "smart_iqa attention": (
        89_111_941,
        "6f47253cfb7b99b1",
        [-9.786619, -11.33951],
        [[0.2905353, 0.09480555, 0.5073236, 0.1073356], [0.2821222, 0.1058169, 0.4888991, 0.1231618]],
    ),
}


def uniform(shape, key: str) -> Tensor:
    """Reproducible numbers in [-1, 1): a hash of their positions (the finaliser of MurmurHash3)."""
    with np.errstate(over="ignore"):
        h = np.arange(max(1, int(np.prod(shape))), dtype=np.uint32) * np.uint32(0x9E3779B1)
        h += np.uint32(zlib.crc32(key.encode()))
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            h ^= h >> np.uint32(shift)
            h *= np.uint32(factor)
        h ^= h >> np.uint32(16)
    return torch.from_numpy(h.astype(np.float32) / 2**31 - 1).reshape(shape)


# Keep the sigmoids of the target network out of saturation, where a fault could hide.
SMALLER = {"fc1w": 0.03, "fc2w": 0.15, "fc3w": 0.15, "fc4w": 0.15, "fc5w": 2, "b_fc": 0.3, "attention_net.3": 0.3}


@functools.cache
def weight_of(key: str, shape) -> Tensor:
    """An entry of a state dict by a formula of its name; read-only."""
    x = uniform(shape, key) * next((factor for part, factor in SMALLER.items() if part in key), 1)
    if key.endswith(("bias_table", "bias", "running_mean")):
        return x / 4
    if len(shape) < 2:  # of a norm; the last of a residual branch is small, else rounding grows from block to block
        return (1 + x / 4) * (0.2 if "bn3" in key else 1)
    gain = 1 if "swin.backbone" in key else 2
    return x * (3 * gain / np.prod(shape[1:])) ** 0.5


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {
        key: weight_of(key, value.shape) if value.ndim else torch.tensor(0) for key, value in model.state_dict().items()
    }


def images(count: int) -> Tensor:
    """[count, 3, 224, 224]: stripes and moiré, in the range of normalised patches."""
    b, c, y, x = np.ogrid[:count, :3, :224, :224]
    return torch.from_numpy((x * (1 + b + c) + y * (3 + 2 * b) + x * y // (9 + 4 * b - c)) % 256 / 64 - 2).float()


def digest(model: nn.Module) -> str:
    """A digest of the names and shapes of a state dict."""
    lines = sorted(f"{key} {list(value.shape)}" for key, value in model.state_dict().items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def set_statistics(model: nn.Module, run) -> None:
    """Give the batch norms the statistics of a batch."""
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    if norms:
        for norm in norms:
            norm.momentum = 1.0
        run(model.train())
    model.eval()


@pytest.fixture(autouse=True, scope="module")
def no_random_start():
    """Skip the random initial weights, which would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("trunc_normal_", "normal_", "kaiming_normal_", "kaiming_uniform_", "xavier_uniform_", "uniform_"):
            patch.setattr(nn.init, name, lambda tensor, *_, **__: tensor)
        yield
    weight_of.cache_clear()


def build(name: str, device: str = "cpu") -> nn.Module:
    """The model of a row of REFERENCES; on "meta" without values."""
    name, _, fusion = name.partition(" ")
    flags = dict(zip(("use_multiscale", "use_attention"), FUSIONS[fusion], strict=True)) if fusion else {}
    with torch.device(device):
        return build_published(name, BACKBONES[PUBLISHED[name].variant.backbone].build(), **flags)


def published_state(name: str) -> dict[str, Tensor]:
    """A state dict of the model, by a formula."""
    return state_of(build(name, "meta"))


def of_older_timm(state):
    """With the buffers of timm in 2022 and without the counts that older PyTorch lacked."""
    buffers = {
        f"{key.removesuffix('_bias_table')}_index": torch.zeros(49, 49) for key in state if key.endswith("bias_table")
    }
    buffers["swin.backbone.layers_0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    return {key: value for key, value in {**state, **buffers}.items() if not key.endswith("num_batches_tracked")}


WRAPPINGS = {  # of published files
    "DataParallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "bare": lambda state: state,
    "older timm": of_older_timm,
    "with its epoch": lambda state: {"model_state_dict": state, "epoch": 7},
}


@pytest.mark.parametrize("name, wrapping", list(zip(REFERENCES, WRAPPINGS, strict=True)))
def test_weights_score_as_in_the_program_that_they_are_of(name, wrapping):
    count, names_and_shapes, expected, expected_attention = REFERENCES[name]
    model = published_model(WRAPPINGS[wrapping](published_state(name)))
    assert (sum(parameter.numel() for parameter in model.parameters()), digest(model)) == (count, names_and_shapes)
    assert not model.training and model.variant.use_attention == (expected_attention is not None)
    with torch.inference_mode():
        set_statistics(model, lambda model: model(images(2)))
        scores, attention, hidden = model.describe(images(2))
    torch.testing.assert_close(scores, torch.tensor(expected), rtol=0, atol=1e-4)
    assert [list(units.shape) for units in hidden] == [[2, 112], [2, 56], [2, 28], [2, 14]]
    if expected_attention:
        torch.testing.assert_close(attention, torch.tensor(expected_attention), rtol=0, atol=1e-6)


@pytest.fixture(scope="module", params=["hyperiqa", "smart_iqa attention"])
def model(request, no_random_start):
    model = build(request.param)
    model.load_state_dict(published_state(request.param))
    return model


def test_every_parameter_is_optimized_once_at_its_rate_and_receives_a_gradient(model):
    options = parse_options(["--model", model.variant.tag, "--recipe", "published"])
    optimizer = choose_optimizer(options, model, 1).optimizer
    slow, rest = (group["params"] for group in optimizer.param_groups)
    assert sorted(map(id, [*slow, *rest])) == sorted(map(id, model.parameters()))
    assert [group["lr"] for group in optimizer.param_groups] == [options.lr, 10 * options.lr]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(parameter)].partition(".")[0] for parameter in slow} <= {"res", "swin"}
    for layer in model.train().modules():
        if isinstance(layer, StochasticDepth):  # which leaves whole blocks out
            layer.eval()
    F.l1_loss(model(images(2)[:, :, :64, :64]), torch.full((2,), 1e6)).backward()
    silent = [name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert silent == []
    model.zero_grad()


def test_any_multiple_of_32_is_a_patch_size_and_a_score_depends_on_no_other_patch(model):
    for size in (32, 96):
        inputs = images(3)[:, :, :size, :size]
        with torch.inference_mode():
            scores = model.eval()(inputs)
            alone = torch.cat([model(patch[None]) for patch in inputs])
        assert scores.shape == (3,) and scores.isfinite().all()
        torch.testing.assert_close(scores, alone, rtol=1e-4, atol=1e-4)


def test_scores_stay_fp32_under_autocast_and_fold(model):
    inputs = images(2)[:, :, :64, :64].to(memory_format=torch.channels_last)
    with torch.inference_mode():
        set_statistics(model, lambda model: model(inputs))
        scores = model(inputs)
        torch.testing.assert_close(fold_batch_norms(model)(inputs), scores, rtol=2e-3, atol=1e-2)
        with torch.autocast("cpu", torch.bfloat16):
            assert model(inputs).dtype == torch.float32


def test_dropout_is_where_it_was_published(model, monkeypatch):
    dropped, drop = [], F.dropout

    def record(x, p=0.5, training=True, inplace=False):
        dropped.extend([(list(x.shape), p)] if training and p else [])
        return drop(x, p, training, inplace)

    monkeypatch.setattr(F, "dropout", record)
    inputs = images(2)[:, :, :32, :32]
    with torch.inference_mode():
        assert torch.equal(model.eval()(inputs), model(inputs)) and dropped == []
        model.train()(inputs)
    units = [([2, 112, 7, 7], 0.4), ([2, 112, 1], 0.4), ([2, 56, 1], 0.4), ([2, 28, 1], 0.4)]
    assert dropped == ([([2, 256], 0.5), *units] if model.variant.tag == "smart_iqa" else [])


def test_what_is_no_published_model_is_left_to_others():
    own = {"backbone.stem.0.weight": torch.zeros(1), "fc5b_fc.bias": torch.zeros(1)}
    for saved in ({}, own, {"model": own, "config": {}}, {"model_state_dict": own}, {"model_state_dict": 3}):
        assert published_model(saved) is None


@pytest.mark.parametrize(
    "change, word",
    [
        (lambda state: state.pop("fc3b_fc.weight"), "fc3b_fc.weight"),
        (lambda state: state.update({"res.lda2_fc.weight": torch.zeros(16, 3)}), "res.lda2_fc.weight"),
        (lambda state: state.update(more=torch.zeros(1)), "more"),
        (lambda state: state.update({"conv1.0.weight": 3}), "conv1.0.weight"),
    ],
)
def test_damaged_weights_name_the_first_entry(change, word):
    state = published_state("hyperiqa")
    change(state)
    with pytest.raises(ValueError, match=f"not HyperIQA as it was published: 1 entries differ, first {word}"):
        published_model(state)


@pytest.mark.parametrize("weight", [torch.zeros(512, 768, 1, 1), 3], ids=["of a smaller Swin", "no tensor"])
def test_other_smart_iqa_weights_are_refused(weight):
    state = published_state("smart_iqa single")
    state["conv1.0.weight"] = weight
    with pytest.raises(ValueError, match="not SMART-IQA as it was published"):
        published_model(state)


# The recipes


def test_hyperiqas_rates():
    recipe = PUBLISHED_RECIPES["hyperiqa"]
    backbone, rest = zip(*(recipe.rates(2e-5, 10, before, 16) for before in range(16)), strict=True)
    assert set(backbone) == {2e-5}
    np.testing.assert_allclose(rest, [2e-4] * 7 + [2e-5] * 3 + [2e-6] * 3 + [2e-7] * 3)


@pytest.mark.parametrize("epochs", [3, 10])
def test_smart_iqas_rates_are_those_of_torchs_cosine(epochs):
    recipe = PUBLISHED_RECIPES["smart_iqa"]
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (5e-7, 5e-6)]
    optimizer = torch.optim.AdamW(groups)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs, eta_min=1e-6)
    for before in range(epochs):
        np.testing.assert_allclose(recipe.rates(5e-7, 10, before, epochs), scheduler.get_last_lr(), rtol=1e-9)
        optimizer.step()
        scheduler.step()


def test_the_flags_of_published_weights():
    assert scoring_flags(build("smart_iqa multiscale", "meta").variant) == {
        "model": "smart_iqa",
        "backbone": "swin_b",
        "use_multiscale": True,
        "use_attention": False,
        "patch_size": 224,
        "test_patch_num": 20,
        "test_random_crop": False,
        "seed": 0,
        "resize": "squeeze",
        "dataset": None,
    }

"""Memory of the images and precision of a run on different devices."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from iqa.data.cutting import DeviceImages
from iqa.training import devices, precision
from train_resnet_improved import EagerStep

NEEDED = 3 * (384 * 512 + 500 * 384)  # bytes of the images below
IMAGES = {"training": SimpleNamespace(sizes=lambda: np.array([[384, 512], [500, 384]]), in_memory=lambda: "host")}


@pytest.mark.parametrize(
    ("where", "device", "free", "is_cached", "expected"),
    [
        ("auto", "cuda", 2 * NEEDED, True, "gpu"),
        ("auto", "cuda", 2 * NEEDED - 2, True, "no"),
        ("auto", "cuda", 2 * NEEDED, False, "no"),
        ("auto", "cpu", 0, True, "no"),
        ("yes", "cuda", 2 * NEEDED, False, "gpu"),
        ("yes", "cuda", 2 * NEEDED - 2, True, "host"),
        ("yes", "cpu", 0, True, "host"),
        ("gpu", "cuda", 2 * NEEDED, False, "gpu"),
        ("host", "cuda", 2 * NEEDED, True, "host"),
        ("no", "cuda", 2 * NEEDED, True, "no"),
    ],
)
def test_pixels_are_held_on_the_gpu_where_they_take_at_most_half_of_its_free_memory(
    monkeypatch, where, device, free, is_cached, expected
):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10 * free))
    monkeypatch.setattr(DeviceImages, "of", lambda images, device: "gpu")
    held = devices.preloaded(IMAGES, where, torch.device(device), is_cached=is_cached)["training"]
    assert held == (IMAGES["training"] if expected == "no" else expected)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_pixels_that_must_be_on_the_gpu_and_do_not_fit_are_an_error(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (NEEDED, NEEDED))
    with pytest.raises(ValueError, match=f"--preload_images gpu: .*{device}.*use auto"):
        devices.preloaded(IMAGES, "gpu", torch.device(device), is_cached=True)


CPU = torch.device("cpu")
MEASURED = {"precision": "bf16", "precision_seconds": {"fp32": 0.5, "bf16": 0.25}}


@pytest.fixture
def ablation(monkeypatch, tmp_path):
    """The folder of a run on a CPU with bf16, in an ablation whose first run has measured the precisions."""
    monkeypatch.setattr(precision, "bf16_is_native", lambda device: True)
    (tmp_path / "exp1_baseline").mkdir()
    (tmp_path / "exp1_baseline/config.json").write_text(json.dumps({"run_id": "1", **MEASURED}))
    return tmp_path / "exp2_multiscale"


def test_a_precision_is_measured_once_for_an_ablation(monkeypatch, ablation):
    assert precision.settled_precision("auto", CPU, None, ablation) is None  # not started by the runner: to be measured
    monkeypatch.setenv("ABLATION_RUN", "2/3")
    assert precision.settled_precision("auto", CPU, None, ablation) == MEASURED
    assert precision.settled_precision("auto", CPU, None, ablation / "elsewhere/first") is None


def test_a_resumed_run_keeps_its_precision_and_a_named_one_is_taken(monkeypatch, ablation):
    monkeypatch.setenv("ABLATION_RUN", "2/3")
    assert precision.settled_precision("auto", CPU, {"precision": "fp32"}, ablation) == {"precision": "fp32"}
    assert precision.settled_precision("bf16", CPU, {"precision": "fp32"}, ablation) == {"precision": "bf16"}


def test_a_device_without_bf16_is_not_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "bf16_is_native", lambda device: False)
    assert precision.settled_precision("auto", CPU, None, tmp_path / "run") == {"precision": "fp32"}


@pytest.mark.parametrize("faster", ["fp32", "bf16"])
def test_the_faster_precision_is_chosen_and_both_times_are_kept(monkeypatch, faster, capsys):
    seconds = {"fp32": 1.0, "bf16": 1.0, faster: 0.5}
    monkeypatch.setattr(precision, "step_seconds", lambda eager_step, model, device, name, *sizes: seconds[name])
    found = precision.measured_precision(EagerStep, torch.nn.Linear(1, 1), CPU, 32, 224)
    assert found == {"precision": faster, "precision_seconds": seconds}
    assert f"Precision: {faster}" in capsys.readouterr().out


def test_measuring_leaves_the_model_as_it_is():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.AvgPool2d(14)).eval()
    model.append(torch.nn.Flatten()).append(torch.nn.Linear(4, 1)).append(torch.nn.Flatten(0))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = precision.measured_precision(EagerStep, model, CPU, 2, 16)
    assert all(seconds > 0 for seconds in found["precision_seconds"].values()) and not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_only_batches_of_the_first_size_are_compiled(monkeypatch):
    """A smaller last batch would need another compilation."""
    compiled, seen = [], []
    monkeypatch.setattr(torch, "compile", lambda score, dynamic: lambda inputs: compiled.append(len(inputs)))
    score = devices.compile_for_one_size(lambda inputs: seen.append(len(inputs)))
    for size in (4, 4, 3, 4):
        score(torch.empty(size))
    assert (compiled, seen) == ([4, 4, 4], [3])

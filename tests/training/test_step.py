"""The training step, eager and captured, on a CPU: capture and replay by a stand-in (tests/recorded_graph.py)."""

import math
import random

import pytest
import torch
import torch.nn.functional as F
from recorded_graph import stand_in
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim.lr_scheduler import ChainedScheduler, CosineAnnealingLR, LinearLR

from iqa.training.losses import training_loss
from iqa.training.optimization import LearningRates
from iqa.training.recipe import LOSSES
from iqa.training.scored_model import EvalModeCopy
from iqa.training.step import WARM_UP, CapturedStep, check_cuda_graph, choose_step
from models_resnet_improved import ImageQualityResNet
from train_resnet_improved import EagerStep

STEPS, BATCH = 20, 6


class Model(nn.Module):
    """A network with batch norm and dropout: [B, 3, P, P] -> [B]."""

    def __init__(self):
        super().__init__()
        self.slow_part = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(8, 1)

    def forward(self, images):
        return self.head(self.slow_part(images).mean((2, 3))).flatten()

    describe = forward

    def rescaled(self, slope, intercept):
        return {}


class Run:
    """Training steps with a changing rate, dropout, clipping and weight averaging.

    Args:
        captured: by the stand-in for a CUDA graph.
        plant: the host value that a wrong step would hold: "rate", "decay", "counter", "number", or "" for none.
    """

    def __init__(self, captured: bool, plant: str = "", as_tensors: bool = True):
        torch.manual_seed(1)
        self.model = Model()
        parts = ((self.model.slow_part, 1e-2), (self.model.head, 3e-2))
        groups = [{"params": part.parameters(), "lr": lr} for part, lr in parts]
        optimizer = torch.optim.AdamW(groups, weight_decay=1e-2, fused=True)
        schedule = ChainedScheduler([LinearLR(optimizer, 0.25, total_iters=6), CosineAnnealingLR(optimizer, STEPS)])
        self.rates = LearningRates(optimizer, schedule, as_tensors=as_tensors and plant != "rate")
        self.average = EvalModeCopy(self.model, ema=0.9)
        self.plant, self.count = plant, 0
        eager = EagerStep(self.model, optimizer, self.loss_of, max_grad_norm=0.05)
        self.step = CapturedStep(eager, required=True) if captured else eager
        self.losses = []

    def loss_of(self, images, mos):
        if self.plant == "decay":
            self.average.after_step()
        scores = self.model(images)
        if self.plant == "counter":
            self.count += 1
            scores = scores / (1 - 0.9**self.count)
        if self.plant == "number":
            scores = scores + random.Random(len(self.losses)).random()
        return F.l1_loss(scores, mos)

    def train(self, first: int, last: int, batch: int = BATCH, poison: int | None = None) -> "Run":
        for number in range(first, last):
            generator = torch.Generator().manual_seed(number)
            inputs = torch.randn(batch, 3, 8, 8, generator=generator).to(memory_format=torch.channels_last)
            if number == poison:
                inputs[0] = math.inf
            loss, norm = self.step(inputs, torch.linspace(0, 1, batch))
            self.losses.append((loss.item(), norm.item()))
            self.rates.step()
            if self.plant != "decay":
                self.average.after_step()
        return self


def tensors_of(run) -> dict[str, torch.Tensor]:
    states = run.rates.optimizer.state_dict()["state"]
    return {
        **run.model.state_dict(),
        **{f"average {name}": value for name, value in run.average.average.state_dict().items()},
        **{f"{key} of {number}": value for number, state in states.items() for key, value in state.items()},
    }


def differences(one, other) -> list[str]:
    """Names of the tensors that differ between two runs, of this file or of test_step_gpu.py."""
    tensors, others = tensors_of(one), tensors_of(other)
    assert tensors.keys() == others.keys()
    names = [name for name, value in tensors.items() if not torch.equal(value, others[name])]
    return names + ["losses"] * (one.losses != other.losses)


def continue_from(run, stopped) -> None:
    """Give a new run the state of a stopped one."""
    run.model.load_state_dict(stopped.model.state_dict())
    run.average.load(stopped.average.state() | {"model": stopped.average.weights()})
    run.rates.load(stopped.rates.state())
    run.losses = list(stopped.losses)


def test_captured_steps_equal_eager_ones_to_the_bit(monkeypatch):
    """Batches of several sizes, with an evaluation between two epochs that the graph does not record."""
    graphs = stand_in(monkeypatch)
    runs = [Run(captured) for captured in (False, True)]
    for run in runs:
        torch.manual_seed(7)
        run.train(0, 9).train(9, 10, batch=BATCH - 2)
        run.average.refresh()
        with torch.inference_mode():
            run.average.folded(torch.ones(2, 3, 8, 8))
        torch.manual_seed(8)
        run.train(10, STEPS)
    assert differences(*runs) == []
    assert len(graphs) == 1 and runs[1].step.name == "cuda graph" and runs[1].step.warm_up == 0
    assert len({loss for loss, _ in runs[1].losses}) == STEPS


@pytest.mark.parametrize("plant", ["rate", "decay", "counter", "number"])
def test_a_value_that_is_kept_on_the_host_is_noticed(monkeypatch, plant):
    graphs = stand_in(monkeypatch)
    runs = [Run(captured, plant) for captured in (False, True)]
    for run in runs:
        torch.manual_seed(7)
        run.train(0, WARM_UP)
    assert differences(*runs) == []
    for run in runs:
        torch.manual_seed(8)
        run.train(WARM_UP, STEPS)
    assert graphs and differences(*runs) != []


def test_a_resume_between_replays_equals_the_uninterrupted_run(monkeypatch):
    stand_in(monkeypatch)
    runs = [Run(captured=True), Run(captured=True)]
    for run in runs:
        torch.manual_seed(7)
        run.train(0, 10)
    stopped, resumed = runs[1], Run(captured=True)
    continue_from(resumed, stopped)
    for run in (runs[0], resumed):
        torch.manual_seed(8)
        run.train(10, STEPS)
    assert differences(runs[0], resumed) == []


@pytest.mark.parametrize("poison", [1, 12])
def test_a_step_that_is_not_finite_is_left_out_as_in_eager(monkeypatch, poison):
    """Before the capture and in a replay."""
    stand_in(monkeypatch)
    weights = []
    for captured in (False, True):
        torch.manual_seed(7)
        run = Run(captured).train(0, poison)
        before = [parameter.clone() for parameter in run.model.parameters()]
        run.train(poison, poison + 1, poison=poison)
        assert not any(map(math.isfinite, run.losses[-1]))
        assert all(map(torch.equal, before, run.model.parameters()))
        weights.append(before)
    assert all(map(torch.equal, *weights))


@pytest.mark.parametrize("backbone", ["resnet50", "swin_b"])
@pytest.mark.parametrize("deterministic", [False, True])
def test_the_host_reads_nothing_back_in_the_forward_pass_and_the_losses(monkeypatch, backbone, deterministic):
    """Which a capture refuses. On tensors that have shapes and no values, on a GPU that is not there."""
    monkeypatch.setattr(nn.init, "trunc_normal_", lambda tensor, **settings: tensor)  # it reads the generator's state
    device = torch.device("cuda" if torch.version.cuda else "cpu")
    torch.use_deterministic_algorithms(deterministic)
    try:
        with FakeTensorMode(), device:
            model = ImageQualityResNet(backbone=backbone, use_multiscale=True, use_attention=True, weights="none")
            scores = model.train()(torch.empty(4, 3, 96, 96))
            losses = [training_loss(name, 12.0)(scores, torch.empty(4)) for name in LOSSES if name != "l1"]
    finally:
        torch.use_deterministic_algorithms(False)
    assert {loss.device.type for loss in losses} == {device.type}


def test_a_capture_that_fails_leaves_an_eager_run_and_one_warning(monkeypatch):
    stand_in(monkeypatch, refused="aten::relu")
    eager, captured, warnings = Run(captured=False), Run(captured=True), []
    captured.step = CapturedStep(captured.step.step, warn=warnings.append)
    monkeypatch.setattr("iqa.training.step.leave_capture", lambda *arguments: None)
    for run in (eager, captured):
        torch.manual_seed(7)
        run.train(0, STEPS)
    assert differences(eager, captured) == [] and captured.step.name == "eager"
    assert len(warnings) == 1 and "aten::relu" in warnings[0] and "eagerly" in warnings[0]


def test_a_capture_that_fails_is_an_error_where_it_is_required(monkeypatch):
    stand_in(monkeypatch, refused="aten::relu")
    monkeypatch.setattr("iqa.training.step.leave_capture", lambda *arguments: None)
    with pytest.raises(ValueError, match="--cuda_graph on: .*aten::relu.*auto"):
        Run(captured=True).train(0, WARM_UP + 1)


@pytest.mark.parametrize("asked", ["auto", "off"])
def test_a_cpu_trains_eagerly(asked):
    assert choose_step(asked, Run(captured=False).step, torch.device("cpu")).name == "eager"
    with pytest.raises(ValueError, match="--cuda_graph on: .*cpu"):
        check_cuda_graph("on", torch.device("cpu"))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_gpu_captures_unless_several_processes_share_the_work(monkeypatch, processes):
    stand_in(monkeypatch)
    monkeypatch.setattr("iqa.training.step.process_count", lambda: processes)
    eager = Run(captured=False).step
    names = {asked: type(choose_step(asked, eager, torch.device("cuda"))).__name__ for asked in ("auto", "off")}
    assert names == {"auto": "CapturedStep" if processes == 1 else "EagerStep", "off": "EagerStep"}


def test_a_checkpoint_is_the_same_from_cpu_and_gpu_and_either_continues_it():
    """The optimizer reads rates as floats on a CPU and as tensors on a GPU; the file has floats."""
    cpu, gpu = Run(captured=False, as_tensors=False), Run(captured=False, as_tensors=True)
    for run in (cpu, gpu):
        torch.manual_seed(7)
        run.train(0, 5)
    groups = [run.rates.state()["optimizer"]["param_groups"] for run in (cpu, gpu)]
    assert groups[0] == groups[1] and all(isinstance(group["lr"], float) for group in groups[1])
    assert cpu.rates.state()["schedule"] == gpu.rates.state()["schedule"]
    for source, target in ((cpu, gpu), (gpu, cpu)):
        other = Run(captured=False, as_tensors=target is gpu)
        other.rates.load(source.rates.state())
        assert other.rates.floats == source.rates.floats
        for group, rate in zip(other.rates.optimizer.param_groups, source.rates.floats, strict=True):
            assert group["capturable"] == (target is gpu) == isinstance(group["lr"], torch.Tensor)
            assert float(group["lr"]) == pytest.approx(rate, rel=1e-7)
        other.rates.step()
        source.rates.step()
        assert other.rates.floats == source.rates.floats

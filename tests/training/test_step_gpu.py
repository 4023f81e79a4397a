"""The training step on a GPU, eager and as a CUDA graph. `bash tools/on_gpu.sh` runs these tests."""

import os

import pytest
import torch
import torch.nn.functional as F
from test_step import continue_from, differences
from torch.optim.lr_scheduler import ChainedScheduler, CosineAnnealingLR, LinearLR

from data_loader import PatchLoader, Resize, TrainingPlan
from iqa.data.cutting import DeviceImages
from iqa.data.datasets import load_dataset
from iqa.data.images import DecodedImages
from iqa.models.variants import VARIANTS
from iqa.training.optimization import LearningRates
from iqa.training.scored_model import EvalModeCopy
from iqa.training.step import WARM_UP, CapturedStep
from models_resnet_improved import ImageQualityResNet
from train_resnet_improved import EagerStep

pytestmark = pytest.mark.gpu

DEVICE = torch.device("cuda")
STEPS, BATCH, PATCH = 20, 8, 64
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by the first matrix product


@pytest.fixture
def deterministic(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def loss_by(forward):
    def loss_of(inputs, mos):
        with torch.autocast("cuda", torch.bfloat16):
            scores = forward(inputs)
        return F.l1_loss(scores, mos)

    return loss_of


class Run:
    """Steps of the third variant with a changing rate, dropout, clipping and weight averaging.

    Args:
        captured: as a CUDA graph.
        poison: number of the step whose inputs are not finite.
        wrap: changes the forward pass.
    """

    def __init__(self, captured: bool, *, poison: int | None = None, wrap=lambda model: model, required: bool = True):
        torch.manual_seed(1)
        model = ImageQualityResNet(
            use_multiscale=True, use_attention=True, weights="none", mos_mean=50, mos_deviation=15
        )
        self.model = model.to(DEVICE, memory_format=torch.channels_last)
        self.poison, self.warnings, self.losses = poison, [], []
        self.model.start(self.batch(0)[0])
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=1e-4, fused=True)
        schedule = ChainedScheduler([LinearLR(optimizer, 0.25, total_iters=6), CosineAnnealingLR(optimizer, STEPS)])
        self.rates = LearningRates(optimizer, schedule, as_tensors=True)
        self.average = EvalModeCopy(self.model, ema=0.9)
        step = EagerStep(self.model, optimizer, loss_by(wrap(self.model)), max_grad_norm=1.0)
        self.step = CapturedStep(step, required=required, warn=self.warnings.append) if captured else step

    def batch(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(number)
        inputs = torch.randn(BATCH, 3, PATCH, PATCH, generator=generator)
        if number == self.poison:
            inputs[0] = torch.inf
        mos = 100 * torch.rand(BATCH, generator=generator)
        return inputs.to(DEVICE, memory_format=torch.channels_last), mos.to(DEVICE)

    def train(self, first: int = 0, last: int = STEPS) -> "Run":
        """Each half has its own seed for dropout, as an epoch has."""
        self.model.train()
        for number in range(first, last):
            if number in (0, STEPS // 2):
                torch.manual_seed(number)
            loss, norm = self.step(*self.batch(number))
            self.losses.append((loss.item(), norm.item()))
            self.rates.step()
            self.average.after_step()
        return self

    def evaluate(self) -> "Run":
        self.average.refresh()
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
            self.average.folded.describe(self.batch(99)[0])
        return self


def distance(one: Run, other: Run) -> float:
    """Distance of the parameters of two runs, relative to their norm."""
    a, b = (torch.cat([p.detach().flatten() for p in run.model.parameters()]).double() for run in (one, other))
    return ((a - b).norm() / a.norm()).item()


def test_captured_steps_equal_eager_ones_to_the_bit(deterministic):
    """With an evaluation between two epochs."""
    eager, captured = (Run(captured).train(0, 10).evaluate().train(10) for captured in (False, True))
    assert captured.step.name == "cuda graph" and captured.step.graph is not None
    assert differences(eager, captured) == []
    assert len({loss for loss, _ in captured.losses}) == STEPS


def test_captured_steps_are_as_near_to_eager_ones_as_these_are_to_each_other():
    torch.backends.cudnn.benchmark = True
    eager, again, captured = (Run(captured).train() for captured in (False, False, True))
    assert distance(eager, captured) <= 10 * distance(eager, again) + 1e-6


def test_evaluation_between_epochs_disturbs_nothing(deterministic):
    assert differences(Run(captured=True).train(), Run(captured=True).train(0, 10).evaluate().train(10)) == []


def test_a_resume_between_replays_equals_the_uninterrupted_run(deterministic):
    whole, stopped, resumed = Run(captured=True).train(), Run(captured=True).train(0, 10), Run(captured=True)
    continue_from(resumed, stopped)
    assert differences(whole, resumed.train(10)) == []


@pytest.mark.parametrize("poison", [1, 12])
def test_a_step_that_is_not_finite_is_left_out_as_in_eager(deterministic, poison):
    runs = [Run(captured, poison=poison).train(0, poison) for captured in (False, True)]
    for run in runs:
        before = [parameter.clone() for parameter in run.model.parameters()]
        run.train(poison, poison + 1)
        assert not any(torch.tensor(run.losses[-1]).isfinite())
        assert all(map(torch.equal, before, run.model.parameters()))
    assert all(map(torch.equal, *(run.model.parameters() for run in runs)))


def test_a_capture_that_fails_leaves_an_eager_run_with_its_dropout(deterministic):
    def waiting(model):
        def forward(inputs):
            scores = model(inputs)
            if torch.cuda.is_current_stream_capturing():
                scores.sum().item()
            return scores

        return forward

    eager, captured = Run(captured=False).train(), Run(captured=True, wrap=waiting, required=False).train()
    assert captured.step.name == "eager" and len(captured.warnings) == 1
    assert differences(eager, captured) == []


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.log_name)
def test_every_variant_is_captured_and_never_waits(tiny_data, variant):
    """Loading, cutting on the GPU and training never wait, from the second replay on."""
    images = load_dataset("koniq-10k", tiny_data).sets["training"]
    source = DeviceImages.of(DecodedImages(images.paths, Resize()), DEVICE)
    plan = TrainingPlan(source.sizes(), images.mos, patches=8, patch_size=PATCH, batch_size=BATCH, seed=42)
    loader = PatchLoader(source, plan, patch_size=PATCH, color_jitter=True, device=DEVICE, num_workers=0)
    flags = {"use_multiscale": variant.use_multiscale, "use_attention": variant.use_attention}
    model = ImageQualityResNet(**flags, weights="none").to(DEVICE, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-4, fused=True)
    rates = LearningRates(optimizer, CosineAnnealingLR(optimizer, 8), as_tensors=True)
    step = CapturedStep(EagerStep(model, optimizer, loss_by(model), max_grad_norm=1), required=True)
    try:
        for number, (inputs, batch) in enumerate(loader):
            step(inputs, batch.mos)
            rates.step()
            if number == WARM_UP + 1:
                torch.cuda.set_sync_debug_mode("error")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert number == 7 and step.name == "cuda graph"

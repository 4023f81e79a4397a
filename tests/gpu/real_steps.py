"""Training steps of a real run: its model, optimizer and loader, made by the functions that a run makes them with."""

import contextlib
import io
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch.optim.lr_scheduler import ConstantLR  # noqa: E402

from data_loader import PatchLoader  # noqa: E402
from iqa.data.datasets import load_dataset  # noqa: E402
from iqa.models.variants import Variant  # noqa: E402
from iqa.training.devices import choose_kernels, choose_precision, open_device  # noqa: E402
from iqa.training.optimization import LearningRates, build_optimizer  # noqa: E402
from iqa.training.options import parse_options  # noqa: E402
from iqa.training.step import CapturedStep, EagerStep, choose_step  # noqa: E402
from train_resnet_improved import build_model, open_loaders, start_model, train_epoch  # noqa: E402


class Steps:
    """The first `count` batches of a loader.

    Args:
        around: entered before the first batch is fetched, left after the last step.
    """

    def __init__(self, loader: PatchLoader, count: int, around: Callable = contextlib.nullcontext):
        self.loader, self.count, self.around = loader, min(count, len(loader)), around
        self.device, self.plan = loader.device, loader.plan

    def __len__(self) -> int:
        return self.count

    def __iter__(self):
        with self.around():
            yield from itertools.islice(self.loader, self.count)


class Trainer(NamedTuple):
    """What `train_epoch` takes, for one variant on one device."""

    model: torch.nn.Module
    step: CapturedStep | EagerStep
    rates: LearningRates
    loader: PatchLoader
    precision: str

    def train(self, count: int, around: Callable = contextlib.nullcontext) -> int:
        """Take steps; returns how many. The mean loss, which waits for the device, is read after them."""
        steps = Steps(self.loader, count, around)
        with contextlib.redirect_stdout(io.StringIO()):
            train_epoch(
                self.model,
                self.step,
                steps,
                rates=self.rates,
                names=[str(i) for i in range(10_000)],
                title="steps",
            )
        return len(steps)


def make_trainer(variant: Variant, data: str, device: str, patch_size: int, batch_size: int) -> Trainer:
    flags = [
        "--data_path",
        data,
        "--weights",
        "none",
        "--no_color_jitter",
        "--device",
        device,
        "--patch_size",
        str(patch_size),
        "--batch_size",
        str(batch_size),
        *["--use_multiscale"] * variant.use_multiscale,
        *["--use_attention"] * variant.use_attention,
    ]
    options, labelled = parse_options(flags), load_dataset("koniq-10k", data)
    opened = open_device(device)
    choose_kernels(deterministic=False)
    precision = choose_precision("auto", opened)
    with contextlib.redirect_stdout(io.StringIO()):
        model = build_model(options, labelled, None).to(opened, memory_format=torch.channels_last)
        loader, *_ = open_loaders(options, labelled, opened)
        start_model(model, loader, precision)
    optimizer = build_optimizer(model, lr=options.lr, weight_decay=options.weight_decay)
    rates = LearningRates(optimizer, ConstantLR(optimizer, factor=1.0), as_tensors=opened.type == "cuda")
    step = choose_step(
        "auto", EagerStep(model, model, optimizer, F.l1_loss, precision=precision, max_grad_norm=1), opened
    )
    return Trainer(model, step, rates, loader, precision)
